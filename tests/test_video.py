"""Decoding: right frames, upright, or one clear error; nothing is ever put in a frame's place."""

import struct

import av
import numpy as np
import pytest

from conftest import numbered_frames, numbers_of, write_video
from videossp import video as video_module
from videossp.video import DataError, is_video, read_frames, read_video

LOSSLESS = [
    ("a.mp4", "libx264", "yuv420p", {"crf": "0"}),
    ("a.mov", "libx264", "yuv420p", {"crf": "0"}),
    ("a.mkv", "ffv1", "yuv420p", {}),
    ("a.avi", "ffv1", "yuv420p", {}),
    ("a.webm", "libvpx-vp9", "yuv420p", {"lossless": "1"}),
    ("a.avi", "mpeg4", "yuv420p", {"qmin": "1", "qmax": "1"}),
    ("a.mkv", "libx264", "yuv420p10le", {"crf": "0"}),
    ("a.mkv", "ffv1", "gray", {}),
]


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "options"), LOSSLESS)
def test_every_container_gives_the_asked_for_frames(tmp_path, name, codec, pix_fmt, options):
    path = tmp_path / name
    write_video(path, numbered_frames(40), codec=codec, pix_fmt=pix_fmt, options=options)
    video = read_video(path)
    assert len(video.times) == 40 and video.seconds == pytest.approx(40 / 12, abs=0.01)
    assert numbers_of(read_frames(path)) == list(range(40))
    wanted = [39, 0, 17, 17, 3]
    frames = read_frames(path, lambda count: wanted)
    assert frames.shape == (5, 48, 64, 3) and frames.dtype == np.uint8
    assert numbers_of(frames) == wanted


def test_gif(tmp_path):
    path = tmp_path / "a.gif"
    write_video(path, numbered_frames(10), codec="gif", pix_fmt="rgb8", rate=10)
    assert len(read_video(path).times) == 10
    levels = read_frames(path).mean((1, 2, 3))
    assert (np.diff(levels) >= 0).all() and levels[0] < levels[-1]


@pytest.mark.parametrize("height", [47, 71])
@pytest.mark.parametrize("width", [33, 97])
def test_odd_sizes_are_kept(tmp_path, height, width):
    frames = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    assert np.array_equal(read_frames(tmp_path / "a.mkv"), frames)


def test_a_variable_rate_counts_frames_not_time(tmp_path):
    times = [0, 1, 2, 10, 11, 30, 31, 32, 33, 60]
    write_video(tmp_path / "a.mp4", numbered_frames(10), options={"crf": "0"}, times=times)
    assert numbers_of(read_frames(tmp_path / "a.mp4", lambda n: [n - 1, 4, 5])) == [9, 4, 5]


@pytest.mark.parametrize("options", [{"g": "10", "bf": "3"}, {"g": "12", "x264-params": "open-gop=1:bf=3"}])
def test_seeking_gives_the_frames_of_a_decode_from_the_start(tmp_path, monkeypatch, options):
    path = tmp_path / "a.mp4"
    write_video(path, numbered_frames(60), options={"crf": "0", **options})
    monkeypatch.setattr(video_module, "SEEK_GAP", 0)
    seeks = []
    assert len(read_video(path).keys) > 3
    opened = video_module._open

    class Spy:
        def __init__(self, inner):
            self.inner = inner

        def __enter__(self):
            self.inner.__enter__()
            return self

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def seek(self, *args, **kwargs):
            seeks.append(args)
            return self.inner.seek(*args, **kwargs)

    monkeypatch.setattr(video_module, "_open", lambda *args, **kwargs: Spy(opened(*args, **kwargs)))
    rng = np.random.default_rng(0)
    for _ in range(20):
        wanted = rng.integers(0, 60, 4).tolist()
        assert numbers_of(read_frames(path, lambda count, wanted=wanted: wanted)) == wanted
    assert seeks


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.avi", "mpeg4", {"g": "12", "bf": "2", "qmin": "1", "qmax": "2"}),
        ("a.mpg", "mpeg2video", {"g": "12", "bf": "2", "qmin": "1", "qmax": "2"}),
        ("a.ts", "libx264", {"g": "12", "bf": "3", "crf": "1"}),
    ],
)
def test_containers_that_seek_roughly_give_the_frames_of_a_full_decode(tmp_path, name, codec, options):
    """Reordered frames and seeks by decoding time: what a seek overshoots is found by a full pass."""
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 20, (300, 48, 64, 3), dtype=np.uint8)
    frames = noise + (np.arange(300) % 200).astype(np.uint8)[:, None, None, None]
    write_video(path, frames, codec=codec, options=options, rate=25)
    count = len(read_video(path).times)
    whole = read_frames(path)
    for wanted in ([count - 1], [0, 100, count - 2], [150, 250], list(range(20, count, 37))):
        assert np.array_equal(read_frames(path, lambda n, wanted=wanted: wanted), whole[wanted])


def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path):
    write_video(tmp_path / "whole.mp4", numbered_frames(40), options={"crf": "0", "bf": "0", "g": "40"})
    with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        step = round(1 / 12 / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = packet.pts - 10 * step, packet.dts - 10 * step
                packet.stream = stream
                target.mux(packet)
    assert len(read_video(tmp_path / "cut.mp4").times) == 30
    assert numbers_of(read_frames(tmp_path / "cut.mp4")) == list(range(10, 40))


def test_a_title_that_is_not_utf8_does_no_harm(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "café"
        stream = container.add_stream("mpeg4", rate=12)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        frame = av.VideoFrame.from_ndarray(numbered_frames(1, 32, 32)[0], format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    title = "caf\u00e9".encode()
    assert title in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(title, b"caf\xe9\xe9"))
    assert len(read_frames(path)) == 1


def test_only_wanted_frames_become_pixels(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    write_video(path, numbered_frames(60), options={"crf": "0", "g": "10"})
    decoded = []
    upright = video_module._upright
    monkeypatch.setattr(video_module, "_upright", lambda frame: decoded.append(frame.pts) or upright(frame))
    read_frames(path, lambda count: [5, 6, 59])
    assert len(decoded) == 3


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, 0, -1, 0, 0), -1),  # a phone held upright: a quarter turn clockwise to show it
        ((-1, 0, 0, 0, -1, 0), 2),
        ((0, -1, 0, 1, 0, 0), 1),
    ],
)
def test_rotation_is_applied(tmp_path, matrix, turn):
    path = tmp_path / "a.mp4"
    frames = np.zeros((2, 32, 48, 3), np.uint8)
    frames[:, :16, :24] = 255  # the top left quarter
    write_video(path, frames, options={"crf": "0"})
    content = bytearray(path.read_bytes())
    unit = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    at = content.index(unit, content.index(b"tkhd"))
    a, b, u, c, d, v = (x * 0x10000 for x in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, u, c, d, v, 0, 0, 0x40000000)
    path.write_bytes(content)
    assert np.abs(read_frames(path).astype(int) - np.rot90(frames, turn, (1, 2))).max() < 8


def test_a_folder_of_frames_is_read_in_the_order_of_its_numbers(tmp_path):
    folder = tmp_path / "100% frames"
    folder.mkdir()
    for i, frame in enumerate(numbered_frames(12)):
        write_video(folder / f"img_{i + 1}.png", frame[None], codec="png", pix_fmt="rgb24", rate=25)
    assert is_video(folder)
    assert numbers_of(read_frames(folder, lambda count: [count - 1, 1, 0])) == [11, 1, 0]


@pytest.mark.parametrize(
    "name", ["with space.mp4", "ünïcode #1 (2).mp4", "a:b.mp4", "50%d.mp4", "x;y&z!.mp4"]
)
def test_odd_names(tmp_path, name):
    write_video(tmp_path / "plain.mp4", numbered_frames(3))
    (tmp_path / "plain.mp4").rename(tmp_path / name)
    assert len(read_frames(tmp_path / name)) == 3


def damaged(path, kind):
    """A file as real data sets hold them."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    if kind == "audio":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
            sound.sample_rate = 44100
            container.mux(stream.encode(sound))
            container.mux(stream.encode())
        return
    write_video(path, frames, mux={"movflags": "faststart"} if kind == "cut" else {})
    content = path.read_bytes()
    if kind == "bits":
        start = content.index(b"mdat") + len(content) // 3
        content = (
            content[:start] + rng.integers(0, 256, 4000, dtype=np.uint8).tobytes() + content[start + 4000 :]
        )
    path.write_bytes(
        {
            "cut": content[: len(content) // 2],
            "headless": content[: len(content) // 2],
            "bits": content,
            "empty": b"",
            "text": b"this is no video at all\n",
        }[kind]
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cut", "cut short: its header promises 40 frames"),
        ("headless", "not a readable video"),
        ("bits", "damaged"),
        ("empty", "the file is empty"),
        ("text", "not a readable video"),
        ("audio", "no video stream"),
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path, kind, words):
    path = tmp_path / "broken.mp4"
    damaged(path, kind)
    with pytest.raises(DataError, match=words) as error:
        read_frames(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_and_empty_places(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        read_frames(tmp_path / "none.mp4")
    with pytest.raises(DataError, match="holds no frames"):
        read_frames(tmp_path)
    (tmp_path / "img_1.png").write_bytes(b"")
    with pytest.raises(DataError, match="img_1.png: not a readable image"):
        read_frames(tmp_path)


def test_frames_that_are_not_there_are_refused(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(3))
    for wanted in ([3], [-1], []):
        with pytest.raises(DataError, match="it has 3"):
            read_frames(tmp_path / "a.mp4", lambda count, wanted=wanted: wanted)


def test_a_single_frame_is_a_video(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(1))
    assert len(read_frames(tmp_path / "a.mp4", lambda count: [0] * 8)) == 8
