"""Windows over files and streams: each is the cut of the video that `read_views` reads."""

import math
import struct
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from conftest import numbered_frames, numbers_of, write_video
from videossp.data.clips import read_views
from videossp.data.sampling import ClipFormat
from videossp.data.video import read_frames, read_video
from videossp.errors import DataError
from videossp.watching.file_windows import FileWindows
from videossp.watching.grid import Grid
from videossp.watching.held import Held, Preparer, RawBudget
from videossp.watching.source import Source, connect
from videossp.watching.stream_frames import StreamFrames
from videossp.watching.stream_windows import StreamWindows

CLIP = ClipFormat(frames=4, size=(32, 32))
UNIT = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)  # display matrices: as stored, a quarter turn
TURNED = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
PAUSE = 37  # a frame after which the picture stands still for three seconds


@pytest.fixture(scope="module")
def variable(tmp_path_factory):
    """A video of 60 frames with a variable rate, 12 to 48 frames a second and one pause, with B-frames."""
    path = tmp_path_factory.mktemp("vfr") / "variable.mp4"
    rng = np.random.default_rng(0)
    steps = rng.choice([10, 13, 20, 40], 59)
    steps[PAUSE] = 1440
    times = np.concatenate([[0], np.cumsum(steps)]).tolist()
    frames = numbered_frames(60) + rng.integers(0, 6, (60, 48, 64, 3), dtype=np.uint8)
    write_video(path, frames, rate=480, times=times, options={"g": "12", "bf": "2"})
    return path


def cut(path, grid, window, clip_format):
    """The clip that `read_views` gives of the part of a window."""
    part = read_video(path, grid.seconds(window.first), grid.seconds(window.stop))
    return read_views(part, clip_format, raw=True)


@pytest.mark.parametrize("sampling", ["uniform", "sparse", "double", "dense"])
def test_windows_of_a_file_with_a_variable_rate_are_the_cuts_of_predict(variable, sampling):
    clip_format, grid = replace(CLIP, sampling=sampling, stride=3), Grid.of([0.5, 1.0, 2.0], 0.125)
    windows = FileWindows(read_video(variable), grid, clip_format)
    found = [(x, x.clip()) for x in windows]
    for window, clip in found:
        assert torch.equal(clip, cut(variable, grid, window, clip_format)), window
    expected = {
        (stop - length, stop)
        for stop in range(1, grid.last(windows.seconds) + 1)
        for length in grid.lengths
        if length <= stop and has_frames(variable, grid.seconds(stop - length), grid.seconds(stop))
    }
    assert {(x.first, x.stop) for x, _ in found} == expected and len(found) == len(expected)
    assert [x.stop for x, _ in found] == sorted(x.stop for x, _ in found)
    assert windows.decoded == 60 and windows.prepare.prepared <= 60 and windows.held == 0


def has_frames(path, start, end):
    try:
        return len(read_video(path, start, end)) > 0
    except DataError:
        return False


def test_frames_of_no_window_are_not_converted(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(48), rate=24)
    grid = Grid.of([1.0], 1.0)
    windows = FileWindows(read_video(tmp_path / "a.mp4"), grid, CLIP)
    clips = [x.clip() for x in windows]
    assert len(clips) == 2 and windows.decoded == 48 and windows.prepare.prepared == 8
    assert numbers_of(clips[1][0].transpose(0, 1).numpy()) == [24 + x for x in (3, 9, 15, 21)]


def streamed(path, grid, clip_format):
    """The windows of a file that is read as a stream, without its index; (windows, clips, StreamWindows)."""
    connection = connect(Source(str(path), "pipe"))
    windows = StreamWindows(grid, clip_format)
    frames = StreamFrames(Preparer(clip_format, "stream"), lambda: 0.0)
    found, most = [], 0
    for frame in frames.of(connection):
        found += [(x, x.clip()) for x in windows.add(frame)]
        most = max(most, windows.held)
    found += [(x, x.clip()) for x in windows.finish()]
    return found, most, frames


def test_windows_of_a_stream_are_those_of_the_file(variable):
    grid = Grid.of([0.5, 2.0], 0.125)
    expected = [(x.first, x.stop, x.clip()) for x in FileWindows(read_video(variable), grid, CLIP)]
    found, most, frames = streamed(variable, grid, CLIP)
    assert [(x.first, x.stop) for x, _ in found] == [x[:2] for x in expected]
    assert all(torch.equal(clip, x[2]) for (_, clip), x in zip(found, expected, strict=True))
    assert most < 60 and frames.session == 0 and not frames.problem


def test_a_stream_whose_times_do_not_start_at_zero_has_exact_times(tmp_path):
    """A frame at a grid point must not come before it, which the difference of two floats may do."""
    with av.open(str(tmp_path / "a.nut"), "w") as file:
        stream = file.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 60000)
        for i, pixels in enumerate(numbered_frames(24)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = 199690 + 15000 * i, Fraction(1, 60000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    frames = StreamFrames(Preparer(CLIP, "stream"), lambda: 0.0)
    found = [x.time for x in frames.of(connect(Source(str(tmp_path / "a.nut"), "pipe")))]
    assert found == [i / 4 for i in range(24)]


def test_a_phone_video_is_upright_and_of_one_size_in_every_window(tmp_path):
    frames = numbered_frames(24)
    frames[:, :24] = 0
    write_video(tmp_path / "plain.mp4", frames, rate=12)
    content = (tmp_path / "plain.mp4").read_bytes()
    unit, turned = (struct.pack(">9i", *x) for x in (UNIT, TURNED))
    at = content.index(unit, content.index(b"tkhd"))
    path = tmp_path / "turned.mp4"
    path.write_bytes(content[:at] + turned + content[at + len(unit) :])
    assert read_frames(path).shape[1:3] == (64, 48)
    grid = Grid.of([1.0])
    clips = [(x, x.clip()) for x in FileWindows(read_video(path), grid, CLIP)]
    assert len(clips) == 5
    assert all(torch.equal(clip, cut(path, grid, window, CLIP)) for window, clip in clips)


def test_a_recording_shorter_than_a_window_is_one_window(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(5), rate=12)
    grid = Grid.of([2.0])
    (window,) = FileWindows(read_video(tmp_path / "a.mp4"), grid, CLIP)
    assert (window.first, window.stop) == (0, 4)
    assert torch.equal(window.clip(), read_views(str(tmp_path / "a.mp4"), CLIP, raw=True))


def test_the_number_of_kept_frames_does_not_depend_on_the_length(tmp_path):
    most = []
    for count in (96, 384):
        path = tmp_path / f"{count}.mp4"
        write_video(path, np.full((count, 16, 16, 3), 99, np.uint8), rate=24)
        windows = FileWindows(read_video(path), Grid.of([1.0, 2.0]), CLIP)
        kept = [windows.held for _ in windows]
        _, held, _ = streamed(path, Grid.of([1.0, 2.0]), CLIP)
        most.append((max(kept), held))
    assert most[0] == most[1] and most[1][0] <= 4 * (2 + 4 + 8) and most[1][1] <= 24 * 2.25 + 1


def test_a_damaged_middle_loses_its_windows_only(tmp_path):
    path = tmp_path / "a.mp4"
    rng = np.random.default_rng(0)
    write_video(path, rng.integers(0, 255, (120, 64, 64, 3), dtype=np.uint8), rate=12, options={"g": "12"})
    whole = {(x.first, x.stop): x.clip() for x in FileWindows(read_video(path), Grid.of([1.0]), CLIP)}
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 20] = bytes(len(data) // 20)
    path.write_bytes(data)
    windows = FileWindows(read_video(path), Grid.of([1.0]), CLIP)
    found = {(x.first, x.stop): x.clip() for x in windows}
    assert windows.damage and windows.lost == len(whole) - len(found) > 0
    assert (0, 4) in found and (36, 40) in found
    assert all(torch.equal(x, whole[key]) for key, x in found.items())


def test_a_session_breaks_off_where_the_times_of_a_stream_start_again(tmp_path):
    with av.open(str(tmp_path / "a.ts"), "w", format="mpegts") as file:
        stream = file.add_stream("mpeg2video", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i, pixels in enumerate(numbered_frames(48)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 12)
            for packet in stream.encode(frame):
                file.mux(packet)
        file.mux(stream.encode(None))
    data = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "twice.ts").write_bytes(data + data)
    connection = connect(Source(str(tmp_path / "twice.ts"), "pipe"))
    frames = StreamFrames(Preparer(CLIP, "stream"), lambda: 0.0)
    sessions = {}
    for x in frames.of(connection):
        sessions.setdefault(x.session, []).append(x.time)
    assert len(sessions) == 2 and all(x[0] == 0 for x in sessions.values())
    assert max(sessions[0]) == pytest.approx(47 / 12, abs=1e-3)


def test_frames_beyond_the_memory_for_raw_ones_are_prepared_at_once():
    frames = [av.VideoFrame.from_ndarray(x, format="rgb24") for x in numbered_frames(6)]
    prepare = Preparer(CLIP, "stream")
    held = [Held(x, i / 12, prepare) for i, x in enumerate(frames)]
    budget = RawBudget(3 * held[0].raw_bytes)
    for x in held:
        budget.add(x)
    assert [x.raw_bytes > 0 for x in held] == [False] * 3 + [True] * 3 and prepare.prepared == 3
    assert numbers_of([x.pixels().numpy() for x in held]) == [*range(6)]


@pytest.mark.parametrize(
    ("windows", "hop", "expected"),
    [
        ([2], None, (500_000, (4,))),
        ([1, 4, 2], None, (250_000, (4, 8, 16))),
        ([1.237], None, (309_250, (4,))),
    ],
)
def test_the_default_hop_is_a_quarter_of_the_shortest_window(windows, hop, expected):
    grid = Grid.of(windows, hop)
    assert (grid.hop, grid.lengths) == expected
    assert grid.seconds(4 * 10**6) == pytest.approx(expected[0] * 4, rel=1e-12)


@pytest.mark.parametrize(
    ("windows", "hop", "words"),
    [
        ([2], 0.3, "2 s is no whole number of hops of 0.3 s; choose another hop, as 0.25"),
        ([1, 1.3], None, "1.3 s is no whole number of hops of 0.25 s; choose another hop, as 0.1"),
        ([0], None, "at least 0.001 s"),
        ([1, math.nan], None, "at least 0.001 s"),
        ([1e-9], 1, "at least 0.001 s"),
        ([0.003], None, "a quarter of the window is 0.00075 s; give a hop of at least 0.001 s"),
        ([1], 0, "hop must be at least 0.001 s"),
        ([1], math.inf, "hop must be at least 0.001 s"),
        # Primes in microseconds: no divisor may be searched for one after the other, which took minutes.
        ([15669.949211], 0.333333, "hops of 0.333333 s; choose another window$"),
        ([86399.999999], 0.5, "choose another window$"),
        ([1 / 3, 2 / 3], None, "no whole number of hops of 0.083333 s; choose another window$"),
        ([1, 86400], 0.01, "has 8640000 hops of 0.01 s, but at most 10000 are possible"),
    ],
)
def test_windows_that_do_not_fit_the_hop_are_one_line(windows, hop, words):
    with pytest.raises(ValueError, match=words):
        Grid.of(windows, hop)


def test_grid_points_are_the_first_at_or_after_a_time():
    grid = Grid.of([0.7], 0.1)
    for seconds in np.random.default_rng(0).uniform(0, 5000, 200):
        point = grid.points(seconds)
        assert grid.seconds(point) >= seconds > grid.seconds(point - 1)
    assert grid.points(0.3) == 3 and grid.points(0) == 0
