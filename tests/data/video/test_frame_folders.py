"""Folders of frames: which images are the frames, their order, and the formats of the images."""

import random
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from conftest import numbered_frames, numbers_of, write_video
from videossp.data.datasets import read_data
from videossp.data.video import VIDEO_SUFFIXES, is_video, read_frames, read_video
from videossp.data.video.files import images_of, names_in
from videossp.data.video.frame_names import missing_numbers
from videossp.data.video.images import read_image
from videossp.errors import DataError, TruncatedError


def touch(folder, names, seed=0):
    """Empty files, made in random order."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in random.Random(seed).sample(list(names), len(names)):
        (folder / name).touch()
    return folder


def frames_in(folder):
    return [x.name for x in images_of(folder)]


def noise(height=30, width=46, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Order. Each list is in the order that its maker means.

STYLES = {
    "image2": [f"image-{i:03}.jpg" for i in range(1, 25)],
    "no padding": [f"img_{i}.jpg" for i in range(1, 125)],
    "padding that overflows": [f"{i:02}.png" for i in range(90, 110)],
    "zero based": [f"{i}.jpg" for i in range(24)],
    "ssv2, jester": [f"{i:05}.jpg" for i in range(1, 38)],
    "epic": [f"frame_{i:010}.jpg" for i in range(1, 24)],
    "mmaction2": [f"img_{i:05}.jpg" for i in range(1, 24)],
    "charades": [f"46GP8-{i:06}.jpg" for i in range(1, 24, 6)],
    "ucf101": [f"v_Biking_g01_c02_{i}.jpg" for i in range(0, 150, 7)],
    "vlc scene": [f"scene{i:05}.png" for i in range(1, 300, 25)],
    "vlc snapshot": [
        f"vlcsnap-2024-03-0{d}-10h{m:02}m{s:02}s{k:03}.png"
        for d in (1, 2)
        for m in (0, 12)
        for s in (3, 40)
        for k in (5, 50, 500)
    ],
    "windows": [f"frame ({i}).jpg" for i in range(1, 15)],
    "macos": [f"frame {i}.jpg" for i in range(2, 15)],
    "blender": [f"{i:04}.png" for i in range(1, 251, 20)],
    "two numbers": [f"shot{a}_frame{b}.jpg" for a in (1, 2, 10) for b in range(1, 13)],
    "dashes": [f"clip-{a}-frame-{b}.jpg" for a in (0, 3, 12) for b in range(8, 12)],
    "version": [f"v1.{a}-frame-{b}.jpg" for a in (2, 9, 10) for b in range(8, 12)],
    "shot.frame": [f"shot{a}.{b}.jpg" for a in (1, 2) for b in range(1, 22)],
    "film": [f"sh010.{i}.png" for i in range(995, 1005)],
    "date and time": [f"2024-01-0{d}_10-{m}-12.jpg" for d in (1, 2) for m in (5, 10, 59)],
    "dotted date": [f"2024.{m}.{d}.jpg" for m in (1, 2, 11) for d in (1, 9, 10)],
    "iso time": ["2024-01-02T10:11:09Z.png", "2024-01-02T10:11:09.5Z.png", "2024-01-02T10:11:10.25Z.png"],
    "clock": ["00:00:01.jpg", "00:00:01.25.jpg", "00:00:01.5.jpg", "00:00:02.jpg", "00:01:00.5.jpg"],
    "seconds": [f"frame_{i * 0.25:g}.jpg" for i in range(50)],
    "seconds of Python": [f"{i * 0.125}.jpg" for i in range(90)],
    "seconds, fixed": [f"t{i / 30:.3f}.jpg" for i in range(40)],
    "only decimals": [f"x{i * 0.05:g}.jpg" for i in range(1, 20) if i != 10],
    "small seconds": [f"t_{x:g}.png" for x in (0, 1e-6, 5e-5, 0.001, 0.01, 1, 1.5, 20, 3e7)],
    "unix time": [f"{1700000000.5 + i * 0.05:.2f}".rstrip("0").rstrip(".") + ".jpg" for i in range(40)],
    "nanoseconds": [f"{1403636579763555584 + i * 50_000_000}.png" for i in range(12)],
    "offsets": [f"t{i}.jpg" for i in range(-6, 6)],
    "offsets with a sign": [f"t{i:+d}.jpg" for i in range(-12, 12)],
    "offsets before": [f"offset_{i}.jpg" for i in range(-12, 0)],
    "only a signed number": [f"{i}.jpg" for i in range(-12, -2)],
    "signed seconds": [f"at={i * 0.5:g}s.png" for i in range(-9, 10)],
    "letters": [f"{x}.jpg" for x in "abcdef"],
    "suffixes mixed": [f"{i:03}.{('jpg', 'PNG', 'JPEG', 'webp')[i % 4]}" for i in range(20)],
    "case mixed": [f"{('img', 'IMG')[i % 2]}_{i}.jpg" for i in range(20)],
    "words of their own": ["1_start.jpg", "2_run.jpg", "3_jump.jpg", "10_run.jpg", "11_stop.jpg"],
    "roboflow": [f"frame_{i}_jpg.rf.{hash((i, 5)) & 0xFFFFFFFFFF:010x}.jpg" for i in (1, 2, 9, 10, 11)],
    "full-width digits": [f"コマ{x}.jpg" for x in "１２３"],
}


@pytest.mark.parametrize("style", STYLES)
def test_frames_are_in_the_order_of_the_numbers_in_their_names(tmp_path, style):
    assert frames_in(touch(tmp_path, STYLES[style])) == STYLES[style]


def test_the_order_reaches_the_decoded_frames(tmp_path):
    names = [f"t{i * 0.5:g}.png" for i in range(-3, 9)]
    for i in random.Random(1).sample(range(12), 12):
        Image.fromarray(numbered_frames(12)[i]).save(tmp_path / names[i])
    assert numbers_of(read_frames(tmp_path)) == list(range(12))


# Which images are the frames

FRAMES = [f"img_{i:05}.jpg" for i in range(1, 13)]
BESIDE = {
    "mmaction2": [f"flow_{a}_{i:05}.jpg" for a in "xy" for i in range(1, 13)],
    "capitals": [f"FLOW_{a}_{i:05}.JPG" for a in "XY" for i in range(1, 12)],
    "axes": [f"{a}_{i:05}.jpg" for a in "xy" for i in range(1, 13)],
    "axes of tv-l1": [f"{a}{i:05}.png" for a in "uv" for i in range(1, 12)],
    "one picture of flow": [f"flow_img_{i:05}.png" for i in range(1, 12)],
    "optical-flow": [f"optical-flow-{i}.png" for i in range(12)],
    "cover": ["cover.jpg"],
    "single pictures": ["poster.png", "thumb_1.jpg", "thumb_2.jpg"],
    "downloaded twice": ["img_00003 (1).jpg"],
    "flow and a cover": [*(f"flow_{a}_{i:05}.jpg" for a in "xy" for i in range(1, 13)), "Cover.JPG"],
}


@pytest.mark.parametrize("beside", BESIDE)
def test_flow_and_single_pictures_are_no_frames(tmp_path, beside):
    names = names_in(touch(tmp_path, [*FRAMES, *BESIDE[beside]]))
    assert (names.frames, names.others) == (FRAMES, sorted(BESIDE[beside]))
    assert is_video(tmp_path) and len(read_video(tmp_path)) == 12


def test_a_cover_does_not_replace_a_video_of_flow(tmp_path):
    names = [f"flow_img_{i}.jpg" for i in range(8)]
    assert frames_in(touch(tmp_path, [*names, "cover.jpg"])) == names


REFUSED = {
    "flow and a cover": [*(f"flow_{a}_{i:05}.jpg" for a in "xy" for i in range(8)), "cover.jpg"],
    "stereo": [f"{side}_{i}.jpg" for side in ("left", "right") for i in range(8)],
    "depth": [f"{i:04}_{x}.png" for x in ("rgb", "depth") for i in range(8)],
    "masks": [*FRAMES, *(f"{x[:-4]}_mask.png" for x in FRAMES)],
    "previews": [*FRAMES, *(f"preview{i}.jpg" for i in range(4))],
    "a few frames": ["1.jpg", "cover.jpg"],
    "flow alone": [f"flow_{a}_{i:05}.jpg" for a in "xy" for i in range(8)],
    "flower": [f"{x}_{i}.jpg" for x in ("flower", "overflow") for i in range(8)],
    "hashes": [f"{hash((i, 9)) & 0xFFFFFFFFFFFFFFFF:016x}.png" for i in range(20)],
}


@pytest.mark.parametrize("kind", REFUSED)
def test_several_patterns_of_names_are_an_error_where_the_frames_are_read(tmp_path, kind):
    folder = touch(tmp_path / "clip", REFUSED[kind])
    assert is_video(folder)
    with pytest.raises(DataError) as error:
        read_video(folder)
    message = str(error.value)
    assert message.startswith(f"{folder}: ") and "images with " in message and "\n" not in message
    assert "keep only the frames of one video in a folder" in message and len(message) < 600


def test_the_error_counts_the_patterns(tmp_path):
    touch(tmp_path, [*(f"rgb_{i}.jpg" for i in range(8)), *(f"depth_{i}.png" for i in range(7))])
    with pytest.raises(
        DataError, match=r"2 patterns of names: 8 such as rgb_0\.jpg, 7 such as depth_0\.png;"
    ):
        images_of(tmp_path)


def test_a_promised_number_of_frames_decides_between_patterns(tmp_path):
    touch(tmp_path, [*(f"rgb_{i}.jpg" for i in range(8)), *(f"depth_{i}.jpg" for i in range(7))])
    assert {x.name[:5] for x in images_of(tmp_path, 7)} == {"depth"}
    assert {x.name[:4] for x in images_of(tmp_path, 8)} == {"rgb_"}
    with pytest.raises(DataError, match="2 patterns"):
        images_of(tmp_path, 6)


def test_a_promised_number_decides_between_suffixes(tmp_path):
    touch(tmp_path, [*(f"{i}.jpg" for i in range(8)), *(f"{i}.png" for i in range(7))])
    assert {x.suffix for x in images_of(tmp_path, 7)} == {".png"}
    with pytest.raises(DataError, match=r"0\.jpg and 0\.png have the same number"):
        images_of(tmp_path)


def test_the_number_of_frames_in_a_list_decides_which_images_are_read(tmp_path):
    for label, name in enumerate("vw"):
        (tmp_path / name).mkdir()
        for i in range(8):
            Image.new("RGB", (16, 16), (200, 20 * i, 20 * label)).save(tmp_path / name / f"left_{i}.png")
        for i in range(5):
            Image.new("RGB", (16, 16), (0, 0, 0)).save(tmp_path / name / f"right_{i}.png")
    (tmp_path / "train.txt").write_text("v 8 0\nw 8 1\n")
    for label, sample in enumerate(read_data(tmp_path / "train.txt").splits["train"]):
        frames = read_frames(read_video(sample.path, frames=sample.frames))
        assert [tuple(x[0, 0]) for x in frames] == [(200, 20 * i, 20 * label) for i in range(8)]
    (tmp_path / "train.txt").write_text("v 7 0\nw 8 1\n")
    with pytest.raises(DataError, match=r"train.txt:1: .*v: .*patterns"):
        read_data(tmp_path / "train.txt")


@pytest.mark.parametrize(
    "names", [["001.jpg", "001.png"], ["1.jpg", "001.jpg"], ["t1.jpg", "t1.0.jpg"], ["a1.jpg", "A1.jpg"]]
)
def test_two_frames_of_one_number_are_an_error(tmp_path, names):
    touch(tmp_path, [*names, *(f"{names[0][0] * (not names[0][0].isdigit())}{i}.jpg" for i in range(2, 6))])
    with pytest.raises(DataError, match="have the same number, and 1 of 6 images repeat one; keep one image"):
        read_video(tmp_path)


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([1, 2, 3, 5, 6, 7, 8, 9], 1),
        (range(0, 50, 5), 0),
        ([0, 5, 10, 15, 30, 35, 40, 45, 50], 2),
        ([7], 0),
        ([3, 10, 14, 29, 31, 40], 0),
    ],
)
def test_missing_numbers_are_counted_if_frames_have_a_step(tmp_path, numbers, missing):
    touch(tmp_path, [f"{i}.jpg" for i in numbers])
    assert missing_numbers(names_in(tmp_path).orders) == missing


def test_files_of_systems_and_servers_do_not_make_a_folder_of_frames_a_class(tmp_path):
    touch(
        tmp_path,
        [*FRAMES, ".DS_Store", "Thumbs.db", "._img_00001.jpg", "._x.mp4", "desktop.ini", "notes.txt"],
    )
    touch(tmp_path / "@eaDir", ["img_00001.jpg"])
    assert is_video(tmp_path) and frames_in(tmp_path) == FRAMES
    touch(tmp_path, ["x.mts"])
    assert not is_video(tmp_path)


# Formats


FORMATS = {
    "png": {"format": "PNG"},
    "bmp": {"format": "BMP"},
    "webp": {"format": "WEBP", "lossless": True},
    "tif": {"format": "TIFF", "compression": "tiff_lzw"},
    "ppm": {"format": "PPM"},
    "jp2": {"format": "JPEG2000"},
    "gif": {"format": "GIF"},
}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
@pytest.mark.parametrize("content", FORMATS)
def test_the_content_decides_the_format_whatever_the_suffix(tmp_path, content, suffix):
    image = Image.fromarray(noise())
    if content == "gif":
        image = image.quantize(64)
    image.save(tmp_path / f"1{suffix}", **FORMATS[content])
    assert np.array_equal(read_frames(tmp_path)[0], np.asarray(image.convert("RGB")))


def by_name(path):
    """The pixels from FFmpeg's image2, which takes the format from the suffix."""
    with av.open(f"file:{path}", format="image2", options={"pattern_type": "none"}) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24", threads=1)


MODES = {
    ".jpg": ("RGB", "L", "CMYK"),
    ".jfif": ("RGB",),
    ".png": ("RGB", "L", "RGBA", "P", "1"),
    ".webp": ("RGB", "RGBA"),
    ".tif": ("RGB", "L"),
    ".pgm": ("L",),
    ".ppm": ("RGB",),
    ".tga": ("RGB", "L"),
    ".jp2": ("RGB", "L"),
    ".bmp": ("RGB", "P"),
}


@pytest.mark.parametrize(("suffix", "mode"), [(x, mode) for x, modes in MODES.items() for mode in modes])
def test_images_with_the_right_suffix_have_the_pixels_that_their_suffix_gives(tmp_path, suffix, mode):
    smooth = Image.fromarray(noise(5, 7)).resize((61, 43), Image.Resampling.BICUBIC)
    path = tmp_path / f"1{suffix}"
    smooth.convert(mode).save(path, format="JPEG" if suffix == ".jfif" else None)
    assert np.array_equal(read_image(path), by_name(path))


def test_jpeg_data_named_png_are_read(tmp_path):
    Image.fromarray(numbered_frames(3)[2]).save(tmp_path / "1.png", format="JPEG", quality=95)
    assert numbers_of(read_frames(tmp_path)) == [2]


@pytest.mark.parametrize(
    ("content", "suffix"), [("PNG", ".png"), ("WEBP", ".jpg"), ("GIF", ".jpg"), ("TIFF", ".tif")]
)
def test_an_image_of_several_pictures_is_no_frame(tmp_path, content, suffix):
    pictures = [Image.fromarray(x) for x in numbered_frames(3)]
    pictures[0].save(tmp_path / f"1{suffix}", content, save_all=True, append_images=pictures[1:])
    with pytest.raises(DataError, match=f"1{suffix}: holds several pictures"):
        read_frames(tmp_path)


def test_jpeg_data_in_a_tiff_are_refused(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "1.tif", compression="jpeg")  # FFmpeg gives wrong colours
    with pytest.raises(DataError, match="JPEG data inside a TIFF"):
        read_frames(tmp_path)


@pytest.mark.parametrize("preview", [False, True])
def test_a_truncated_jpeg_is_not_filled_with_grey(tmp_path, preview):
    path = tmp_path / "1.jpg"
    Image.fromarray(noise()).save(path)
    content = path.read_bytes()
    inside = b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content if preview else b""  # as in EXIF
    path.write_bytes(content[:2] + inside + content[2:])
    assert len(read_frames(tmp_path)) == 1
    path.write_bytes(path.read_bytes()[: -len(content) // 3])
    with pytest.raises(TruncatedError, match="1.jpg: truncated: the end of its JPEG data is missing"):
        read_frames(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"<html>", "its content is not JPEG, PNG"),
        (b"\0\0\0\x18ftypheic", "its content is not JPEG, PNG"),
        (b"RIFF\0\0\0\0WEBPVP8X", "Invalid data"),
        (b"II*\0\x08", "Invalid data"),
        (b"GIF89a", "Invalid data"),
    ],
)
def test_other_content_named_jpg_is_one_clear_error(tmp_path, content, words):
    (tmp_path / "1.jpg").write_bytes(content)
    with pytest.raises(DataError, match=f"1.jpg: not a readable image: {words}"):
        read_frames(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jpg"])
def test_exif_orientations_are_shown_as_pillow_shows_them(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    smooth = Image.fromarray(noise(4, 5)).resize((64, 48), Image.Resampling.BICUBIC)
    options = {"jpg": {"quality": 98, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    smooth.save(tmp_path / f"1.{suffix}", exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / f"1.{suffix}"))).astype(int)
    found = read_frames(tmp_path)[0].astype(int)
    assert found.shape == expected.shape
    assert abs(found - expected).max() <= (4 if suffix == "jpg" else 0)


# Suffixes of videos

CODECS = {
    "mts": ("libx264", "mpegts"),
    "m2ts": ("mpeg2video", "mpegts"),
    "ts": ("libx264", "mpegts"),
    "3gp": ("libx264", "3gp"),
    "3g2": ("mpeg4", "3g2"),
    "flv": ("libx264", "flv"),
    "f4v": ("libx264", "f4v"),
    "wmv": ("wmv2", "asf"),
    "asf": ("msmpeg4", "asf"),
    "ogv": ("libvpx", "ogg"),
    "vob": ("mpeg2video", "vob"),
    "m2v": ("mpeg2video", "mpeg2video"),
    "mpe": ("mpeg1video", "mpeg"),
    "divx": ("mpeg4", "avi"),
    "rm": ("rv20", "rm"),
    "nut": ("ffv1", "nut"),
    "y4m": ("wrapped_avframe", "yuv4mpegpipe"),
    "ivf": ("libvpx", "ivf"),
    "h264": ("libx264", "h264"),
    "mjpeg": ("mjpeg", "mjpeg"),
    "qt": ("libx264", "mov"),
    "wtv": ("mpeg2video", "wtv"),
    "apng": ("apng", "apng"),
}


@pytest.mark.parametrize("suffix", CODECS)
def test_files_with_other_suffixes_of_videos_are_videos_and_are_read(tmp_path, suffix):
    codec, container = CODECS[suffix]
    path = tmp_path / f"clip.{suffix.upper()}"
    with av.open(str(path), "w", format=container) as file:
        options = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else {}
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.bit_rate = 176, 144, 1_000_000
        stream.pix_fmt = {"mjpeg": "yuvj420p", "apng": "rgb24"}.get(codec, "yuv420p")
        for pixels in numbered_frames(8, 144, 176):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    assert is_video(path) and f".{suffix}" in VIDEO_SUFFIXES
    assert numbers_of(read_frames(path)) == list(range(8))


def test_typescript_is_no_video(tmp_path):
    for name in ("index.ts", "index.mts"):
        (tmp_path / name).write_text('import fs from "fs";\n\nexport const x = 1;\n')
        assert not is_video(tmp_path / name)
    for name in ("empty.ts", "damaged.ts"):
        (tmp_path / name).write_bytes(b"\0\n\x01" * (name == "damaged.ts"))
        assert is_video(tmp_path / name)
    assert is_video(Path("not there.ts"))
    write_video(tmp_path / "a.ts", numbered_frames(3))
    assert is_video(tmp_path / "a.ts")
