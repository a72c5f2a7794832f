"""Times, key frames and index of a container are hints: frames equal those of a decode from the start."""

import struct
from fractions import Fraction
from itertools import product

import av
import numpy as np
import pytest
from numbered import HEIGHT, RATE, WIDTH, number_of, numbers, picture, reference, write

from conftest import copy_packets
from videossp import DataError
from videossp.data.video import read_frames, read_video
from videossp.data.video.decode import read_frames_and_notes

# Encoder: options of each way to use it. Further options are those of `write`.
ENCODERS = {
    "libx264": [
        {"bf": "0"},
        {"bf": "3"},
        {"x264-params": "open-gop=1:bframes=3:b-adapt=0"},
        {"x264-params": "intra-refresh=1"},
    ],
    "libx265": [{"x265-params": "log-level=none:keyint=6:min-keyint=6:bframes=3:b-adapt=0:scenecut=0"}],
    "mpeg4": [{}, {"bf": "2"}],
    "mpeg2video": [{"bf": "2"}],
    "mpeg1video": [{"bf": "2"}],
    "libvpx": [{"auto-alt-ref": "1", "lag-in-frames": "8", "cpu-used": "8"}],
    "libvpx-vp9": [{"auto-alt-ref": "1", "lag-in-frames": "8", "cpu-used": "8"}],
    "libsvtav1": [{"preset": "12", "svtav1-params": "lp=1"}],
    **dict.fromkeys(("msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "flv", "h263p"), [{}]),
    **dict.fromkeys(("cinepak", "qtrle", "msvideo1", "rpza", "svq1", "flashsv", "flashsv2", "zmbv"), [{}]),
    **dict.fromkeys(("ffv1", "snow", "gif", "png", "apng", "mjpeg", "huffyuv", "ffvhuff", "utvideo"), [{}]),
    **dict.fromkeys(("prores_ks", "cfhd", "jpeg2000", "magicyuv", "asv2", "tiff"), [{}]),
    "rawvideo": [{}],
}
CONTAINERS = (
    *(
        "mp4",
        "mov",
        "m4v",
        "3gp",
        "mkv",
        "webm",
        "avi",
        "ts",
        "mpg",
        "vob",
        "flv",
        "wmv",
        "ogv",
        "nut",
        "mxf",
    ),
    *("gif", "apng", "h264", "hevc", "ivf", "obu", "wtv", "swf"),
)


def mark_all(source, target):
    def change(number, packet):
        packet.is_keyframe = True
        return packet

    copy_packets([source], target, change)


def mark_none(source, target):
    def change(number, packet):
        packet.is_keyframe = False
        return packet

    copy_packets([source], target, change)


def mark_wrong(source, target):
    def change(number, packet):
        packet.is_keyframe = number % 6 == 2
        return packet

    copy_packets([source], target, change)


def number_packets(source, target):
    """The times are the places in the file."""

    def change(number, packet):
        packet.pts = packet.dts = round(number / RATE / packet.time_base)
        return packet

    copy_packets([source], target, change)


def start_between_keys(source, target):
    copy_packets([source], target, lambda number, packet: packet if number >= 2 else None)


def start_between_keys_marked(source, target):
    def change(number, packet):
        packet.is_keyframe = True
        return packet if number >= 2 else None

    copy_packets([source], target, change)


def start_at_second_key(source, target):
    with av.open(str(source)) as container:
        marks = [x.is_keyframe for x in container.demux(video=0) if x.size]
    second = marks.index(True, 1)
    copy_packets([source], target, lambda number, packet: packet if number >= second else None)


def join(source, target, other=None, seconds=0.413):
    """Byte by byte, with a second recording whose times begin that much after those of the first."""

    def later(number, packet):
        shift = round(seconds / packet.time_base)
        packet.pts += shift
        packet.dts = None if packet.dts is None else packet.dts + shift
        return packet

    second = target.with_name(f"second-{target.name}")
    copy_packets([other or source], second, later)
    target.write_bytes(source.read_bytes() + second.read_bytes())


def remove_index(source, target):
    data = source.read_bytes()
    tag = next(x for x in (b"idx1", b"stss", b"\x1c\x53\xbb\x6b") if x in data)
    at = data.rindex(tag)
    new = {b"idx1": b"JUNK", b"stss": b"skip"}.get(tag, b"\x1c\x53\xbb\x6c")
    target.write_bytes(data[:at] + new + data[at + 4 :])


def cut(source, target):
    data = source.read_bytes()
    target.write_bytes(data[: len(data) * 7 // 10])


def keep(source, target):
    target.write_bytes(source.read_bytes())


DAMAGES = (
    *(keep, mark_all, mark_none, mark_wrong, number_packets, join, remove_index, cut),
    *(start_between_keys, start_between_keys_marked, start_at_second_key),
)


def assert_frames_or_error(path, *, may_fail, incomplete=False):
    """Frames equal the reference, each by itself and in sets, or give a DataError.

    Args:
        incomplete: the last frame may be incomplete. Decoders drop it, or fill it with what is in memory.
    """
    try:
        frames, whole = reference(path)
    except (av.FFmpegError, IndexError, ValueError):  # not readable, or no video stream
        frames, whole = [], False
    try:
        video = read_video(path)
        count = len(video)
        if whole and not incomplete:
            assert count == len(frames), path.name
        middle = [int((i + 0.5) * count / 4) for i in range(4)]
        for wanted in ([0], [count // 3], [count // 2], [count - 1], middle, range(count)):
            got = read_frames(video, lambda count, wanted=wanted: wanted)
            for i, image in zip(wanted, got, strict=True):
                if i < len(frames) - incomplete:
                    assert np.array_equal(image, frames[i]), (path.name, i)
    except DataError:
        assert may_fail or not whole, path.name


def written(tmp_path, encoder, options, containers):
    """The files in which this FFmpeg writes the codec so that it can read it again."""
    for container in containers:
        path = tmp_path / f"{encoder}.{container}"
        try:
            write(path, encoder, options=options)
            frames, whole = reference(path)
            if whole and len(frames) == 24:
                yield path
        except (av.FFmpegError, ValueError, IndexError):
            path.unlink(missing_ok=True)


def check_damages(tmp_path, encoder, options, containers=CONTAINERS):
    """Check all damages in all containers; returns the number of containers."""
    files = list(written(tmp_path, encoder, options, containers))
    for path in files:
        for damage in DAMAGES:
            damaged = path.with_name(f"{damage.__name__}-{path.name}")
            try:
                damage(path, damaged)
            except (av.FFmpegError, StopIteration, ValueError, TypeError):
                continue  # the container does not hold such packets
            # An untouched file, and one whose marks are wrong, must be read and not refused.
            may_fail = damage not in (keep, mark_all, mark_none, mark_wrong)
            assert_frames_or_error(damaged, may_fail=may_fail, incomplete=damage is cut)
    return len(files)


@pytest.mark.parametrize(("encoder", "options"), [(x, y) for x, ways in ENCODERS.items() for y in ways])
def test_damaged_hints_give_the_frames_of_a_full_decode_in_every_container(tmp_path, encoder, options):
    assert check_damages(tmp_path, encoder, options) > 0


@pytest.mark.parametrize(
    ("encoder", "container"),
    [
        ("libx264", "mp4"),
        ("msmpeg4", "avi"),
        ("qtrle", "mov"),
        ("cinepak", "avi"),
        ("libvpx", "webm"),
        ("mpeg2video", "ts"),
        ("flv", "flv"),
        ("wmv2", "wmv"),
    ],
)
def test_damaged_hints_give_the_frames_of_a_full_decode(tmp_path, encoder, container):
    for options in ENCODERS[encoder]:
        assert check_damages(tmp_path, encoder, options, (container,)) == 1


def test_times_that_count_packets_are_not_believed(tmp_path):
    """As in a raw stream with B-frames that was copied into another container."""
    for encoder, options, name in (
        ("libx264", {"bf": "2"}, "a.mkv"),
        ("mpeg2video", {"bf": "2"}, "a.mov"),
        ("libx265", ENCODERS["libx265"][0], "a.mp4"),
    ):
        write(tmp_path / "whole.mkv", encoder, range(30), options)
        number_packets(tmp_path / "whole.mkv", tmp_path / name)
        for wanted in ([1], [6], [11, 12, 13], [29, 0], range(30)):
            frames, notes = read_frames_and_notes(tmp_path / name, lambda count, wanted=wanted: wanted)
            assert [number_of(x) for x in frames] == list(wanted), (name, wanted)
        assert "file.times" in notes


def test_times_in_order_are_believed_without_b_frames(tmp_path):
    write(tmp_path / "a.mkv", "libx264", range(30), {"bf": "0"})
    frames, notes = read_frames_and_notes(tmp_path / "a.mkv", lambda count: [29, 7])
    assert [number_of(x) for x in frames] == [29, 7] and not notes


@pytest.mark.parametrize("seconds", [0.02, 0.413, 3.0])
def test_joined_recordings_follow_each_other(tmp_path, seconds):
    for name, encoder in (("a.webm", "libvpx-vp9"), ("a.mkv", "libx264"), ("a.ts", "mpeg2video")):
        first = write(tmp_path / f"first-{name}", encoder, range(20))
        other = write(tmp_path / f"other-{name}", encoder, range(100, 115))
        join(first, tmp_path / name, other, seconds)
        assert numbers(tmp_path / name) == [*range(20), *range(100, 115)]
        assert numbers(tmp_path / name, [18, 19, 20, 21, 34]) == [18, 19, 100, 101, 114]


@pytest.mark.parametrize("count", [24, 25, 29])
def test_the_last_frame_that_comes_out_of_the_decoder_confirms_the_one_before(tmp_path, count):
    """The last packets: a key frame, and a B-frame that cannot be decoded after a seek to the key frame."""
    write(tmp_path / "whole.mkv", "mpeg4", range(count), {"bf": "2", "g": "4"})
    number_packets(tmp_path / "whole.mkv", tmp_path / "a.mkv")
    assert [numbers(tmp_path / "a.mkv", [i]) for i in range(count)] == [[i] for i in range(count)]


@pytest.mark.parametrize(
    ("name", "encoder", "way"),
    [("a.ts", "libx264", 0), ("a.ts", "libx264", 2), ("a.ts", "libx265", 0), ("a.mpg", "mpeg2video", 0)],
)
def test_a_second_recording_that_begins_within_the_last_group_of_the_first_follows_it(
    tmp_path, name, encoder, way
):
    """It begins between key frames, so that the times could be those of one stream with B-frames."""
    first = write(tmp_path / name, encoder, options=ENCODERS[encoder][way])
    start_between_keys(first, tmp_path / f"late-{name}")
    for seconds in (0.735, 0.815):
        path = tmp_path / f"joined-{name}"
        join(first, path, tmp_path / f"late-{name}", seconds)
        frames, whole = reference(path)
        video = read_video(path)
        assert whole and len(video) == len(frames) > 30
        for i in range(18, 30):
            assert np.array_equal(read_frames(video, lambda count, i=i: [i])[0], frames[i]), (seconds, i)
        assert "file.starts-late" not in video.notes


@pytest.mark.parametrize(("name", "encoder"), [("a.ts", "mpeg2video"), ("a.mpg", "mpeg1video")])
def test_a_seek_that_overshoots_says_nothing_about_key_frames(tmp_path, name, encoder):
    write(tmp_path / name, encoder, [i % 256 for i in range(700)], {"bf": "2", "g": "50"})
    frames, notes = read_frames_and_notes(tmp_path / name, lambda count: [3, 430, 690])
    assert [number_of(x) for x in frames] == [3, 430 % 256, 690 % 256] and not notes


@pytest.mark.parametrize(
    ("name", "encoder", "options"),
    [
        ("a.ts", "libx264", {"bf": "0"}),
        ("a.mkv", "libx265", ENCODERS["libx265"][0]),
        ("a.mp4", "mpeg4", {"bf": "0"}),
        ("a.flv", "flv", {}),
        ("a.mkv", "msmpeg4", {}),
        ("a.webm", "libvpx", {"cpu-used": "8"}),
    ],
)
def test_counting_starts_at_the_first_frame_that_can_be_decoded(tmp_path, name, encoder, options):
    source = write(tmp_path / f"whole-{name}", encoder, range(24), options)
    copy_packets([source], tmp_path / name, lambda number, packet: packet if number >= 4 else None)
    video = read_video(tmp_path / name)
    assert numbers(video) == list(range(6, 24))
    assert numbers(video, [0, 5, 17]) == [6, 11, 23]
    assert "cannot be decoded and are left out" in video.notes["file.starts-late"]


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi", "a.wmv"])
def test_frames_that_refer_to_frames_before_the_file_are_not_counted(tmp_path, name):
    """The first key frame of an open group of pictures; the frames shown before it cannot be decoded."""
    source = write(tmp_path / f"whole-{name}", "libx264", range(24), ENCODERS["libx264"][2])
    start_at_second_key(source, tmp_path / name)
    found = numbers(tmp_path / name)
    assert found == list(range(found[0], 24)) and found[0] % 6 == 0
    assert numbers(tmp_path / name, [0, len(found) - 1]) == [found[0], 23]


@pytest.mark.parametrize(("rate", "step"), [(600, 24), (1000, 40), (100, 10), (100, 3), (30, 1)])
def test_an_avi_whose_clock_is_finer_than_its_frames_is_whole(tmp_path, rate, step):
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate, options={"g": "6"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in [*range(40), None]:
            frame = None if number is None else av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            if frame:
                frame.pts, frame.time_base = number * step, Fraction(1, rate)
            for packet in stream.encode(frame):
                packet.duration = step
                container.mux(packet)
    assert numbers(tmp_path / "a.avi") == list(range(40))
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(data[: data.rindex(b"idx1") * 2 // 3])
    with pytest.raises(DataError, match="truncated"):
        read_video(tmp_path / "a.avi")


ORIENTATIONS = list(product((0, 1), (1, -1), (1, -1)))  # (swapped axes, sign of x, sign of y)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize(("swapped", "x", "y"), ORIENTATIONS)
def test_frames_are_turned_and_mirrored_as_the_display_matrix_says(tmp_path, name, swapped, x, y):
    path = write(tmp_path / name, "libx264", range(3))
    stored = read_frames(path)[1]
    matrix = (0, x, y, 0) if swapped else (x, 0, 0, y)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (entry << 16 for entry in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    # The pixel in column i and row j is shown in column a i + c j and row b i + d j, counted from the edge.
    a, b, c, d = matrix
    height, width = (WIDTH, HEIGHT) if swapped else (HEIGHT, WIDTH)
    shown = np.zeros((height, width, 3), np.uint8)
    for j, i in product(range(HEIGHT), range(WIDTH)):
        shown[(b * i + d * j) % height - (b + d < 0), (a * i + c * j) % width - (a + c < 0)] = stored[j, i]
    assert np.array_equal(read_frames(path)[1], shown)
