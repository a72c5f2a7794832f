"""Decoding gives the right frames, rotated, or one clear error; no frame replaces another."""

import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from contextlib import contextmanager, suppress
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from conftest import numbered_frames, numbers_of, turn_video, write_video
from videossp.data.video import decode as decode_module
from videossp.data.video import index as index_module
from videossp.data.video import is_video, max_pixels, read_frames, read_video
from videossp.errors import DataError, NoVideoError, TruncatedError

os.environ["SVT_LOG"] = "1"  # the AV1 encoder prints messages

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
# All dependencies between frames: B-frames, B-frames that refer to B-frames, open GOPs, hidden frames, intra
# refresh; and containers with and without an index or presentation times.
LINKED = [
    ("a.mp4", "libx264", {"g": "12", "bf": "3"}),
    ("a.mp4", "libx264", {"x264-params": "keyint=20:bframes=8:b-adapt=0:b-pyramid=normal"}),
    ("a.mkv", "libx264", {"x264-params": "keyint=12:bframes=4:open-gop=1"}),
    ("a.ts", "libx264", {"x264-params": "keyint=12:bframes=4:open-gop=1"}),
    ("a.ts", "libx264", {"x264-params": "keyint=20:interlaced=1"}),
    ("a.avi", "libx264", {"g": "12", "bf": "2"}),
    ("a.mp4", "libx264", {"x264-params": "keyint=10:intra-refresh=1"}),
    ("a.mp4", "libx265", {"x265-params": "log-level=none:keyint=12:bframes=4"}),
    ("a.mkv", "libx265", {"x265-params": "log-level=none:keyint=24:bframes=7:temporal-layers=3"}),
    ("a.webm", "libvpx-vp9", {"g": "12", "lag-in-frames": "10", "auto-alt-ref": "1", "b": "200k"}),
    ("a.webm", "libvpx", {"g": "12", "lag-in-frames": "10", "auto-alt-ref": "1", "b": "200k"}),
    ("a.mp4", "libsvtav1", {"g": "12", "preset": "12"}),
    ("a.avi", "mpeg4", {"g": "12", "bf": "2"}),
    ("a.mkv", "mpeg4", {"g": "12", "bf": "3", "flags": "+qpel"}),
    ("a.mpg", "mpeg2video", {"g": "12", "bf": "2"}),
    ("a.ts", "mpeg2video", {"g": "12", "bf": "2"}),
    ("a.gif", "gif", {}),
]


def moving(count, height=48, width=64, seed=0):
    """Frames of a moving texture with noise, so that a wrong reference frame changes pixels."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 200, (height // 4 + 1, (width + 2 * count) // 4 + 1, 3))
    texture = small.repeat(4, 0).repeat(4, 1)[:height]
    frames = np.stack([texture[:, 2 * i : 2 * i + width] for i in range(count)])
    return (frames + rng.integers(-20, 20, frames.shape)).astype(np.uint8)


def plain(path):
    """All frames by PyAV alone, decoded from first to last, in the decoder's order."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def pick(path, indices):
    return read_frames(path, lambda count: indices)


@contextmanager
def time_limit(seconds):
    """Fail instead of hanging."""

    def stop(*_):
        raise TimeoutError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Watched:
    """A container, stream or decoder that records its calls."""

    def __init__(self, inner, seen):
        object.__setattr__(self, "_inner", inner)
        object.__setattr__(self, "_seen", seen)

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def __setattr__(self, name, value):
        setattr(self._inner, name, value)

    @property
    def codec_context(self):
        return Watched(self._inner.codec_context, self._seen)

    def demux(self, stream):
        return self._inner.demux(stream._inner)

    def seek(self, time, stream):
        self._seen.append(("seek", time))
        self._inner.seek(time, stream=stream._inner)

    def decode(self, packet):
        if packet is not None:
            self._seen.append((self._inner.skip_frame, packet.pts))
        return self._inner.decode(packet)


@pytest.fixture
def seen(monkeypatch):
    """Calls of the decoder: ("seek", time), or (skip_frame, time) for each packet."""
    notes, open_stream = [], decode_module.open_stream

    @contextmanager
    def watched(*args, **kwargs):
        with open_stream(*args, **kwargs) as (container, stream):
            yield Watched(container, notes), Watched(stream, notes)

    monkeypatch.setattr(decode_module, "open_stream", watched)
    return notes


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "options"), LOSSLESS)
def test_every_container_gives_the_wanted_frames(tmp_path, name, codec, pix_fmt, options):
    path = tmp_path / name
    write_video(path, numbered_frames(40), codec=codec, pix_fmt=pix_fmt, options=options)
    video = read_video(path)
    assert len(video) == 40 and video.seconds == pytest.approx(40 / 12, abs=0.01)
    assert numbers_of(read_frames(path)) == list(range(40))
    wanted = [39, 0, 17, 17, 3]
    frames = pick(path, wanted)
    assert frames.shape == (5, 48, 64, 3) and frames.dtype == np.uint8
    assert numbers_of(frames) == wanted


def test_gif(tmp_path):
    path = tmp_path / "a.gif"
    write_video(path, numbered_frames(10), codec="gif", pix_fmt="rgb8", rate=10)
    assert len(read_video(path)) == 10
    levels = read_frames(path).mean((1, 2, 3))
    assert (np.diff(levels) >= 0).all() and levels[0] < levels[-1]


@pytest.mark.parametrize("height", [47, 71])
@pytest.mark.parametrize("width", [33, 97])
def test_sizes_that_are_odd_numbers_are_kept(tmp_path, height, width):
    frames = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    assert np.array_equal(read_frames(tmp_path / "a.mkv"), frames)


def test_a_variable_rate_counts_frames_not_time(tmp_path):
    times = [0, 1, 2, 10, 11, 30, 31, 32, 33, 60]
    write_video(tmp_path / "a.mp4", numbered_frames(10), options={"crf": "0"}, times=times)
    assert numbers_of(read_frames(tmp_path / "a.mp4", lambda n: [n - 1, 4, 5])) == [9, 4, 5]


@pytest.mark.parametrize("gap", [0, 256], ids=["seek", "read on"])
@pytest.mark.parametrize(("name", "codec", "options"), LINKED)
def test_any_frames_equal_a_decode_from_the_start(tmp_path, monkeypatch, name, codec, options, gap):
    path = tmp_path / name
    write_video(
        path, moving(60), codec=codec, options=options, pix_fmt="rgb8" if codec == "gif" else "yuv420p"
    )
    whole = plain(path)
    assert len(read_video(path)) == len(whole) and np.array_equal(read_frames(path), whole)
    monkeypatch.setattr(decode_module, "SEEK_GAP", gap)
    if "intra-refresh" not in str(options) and (name, codec) != ("a.avi", "libx264"):
        # The slow way is needed only without key frames or presentation times.
        monkeypatch.setattr(decode_module, "_decode_all", None)
    rng = np.random.default_rng(0)
    for _ in range(8):
        wanted = rng.integers(0, len(whole), rng.integers(1, 8)).tolist()
        assert np.array_equal(pick(path, wanted), whole[wanted]), wanted


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.avi", "mpeg4", {"g": "12", "bf": "2", "qmin": "1", "qmax": "2"}),
        ("a.mpg", "mpeg2video", {"g": "12", "bf": "2", "qmin": "1", "qmax": "2"}),
        ("a.ts", "libx264", {"g": "12", "bf": "3", "crf": "1"}),
    ],
)
def test_containers_with_inexact_seeks_give_the_frames_of_a_full_decode(tmp_path, name, codec, options):
    """With reordered frames and seeks by decoding time, a seek can overshoot; reading on finds the frame."""
    path = tmp_path / name
    write_video(path, moving(400), codec=codec, options=options, rate=25)
    whole = plain(path)
    count = len(read_video(path))
    for wanted in ([count - 1], [0, 100, count - 2], [150, 390], list(range(20, count, 37))):
        assert np.array_equal(pick(path, wanted), whole[wanted])


def test_only_needed_frames_are_decoded(tmp_path, seen):
    path = tmp_path / "a.mp4"
    options = {"x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0"}
    write_video(path, moving(60), options=options, rate=12)
    pick(path, [5, 29, 30])
    packets = [(skip, round(time * Fraction(1, 1024))) for skip, time in seen if skip != "seek"]
    assert {frame // 12 for _, frame in packets} == {0, 2}
    assert {frame for skip, frame in packets if skip == "DEFAULT"} == {5, 29, 30}
    assert {skip for skip, _ in packets} == {"DEFAULT", "NONREF"}


@pytest.mark.parametrize(("layers", "skips"), [(1, True), (3, False)])
def test_hevc_frames_are_skipped_only_with_a_single_temporal_layer(tmp_path, seen, layers, skips):
    path = tmp_path / "a.mp4"
    options = {"x265-params": f"log-level=none:keyint=24:bframes=7:temporal-layers={layers}"}
    write_video(path, moving(30), codec="libx265", options=options)
    pick(path, [20])
    assert ("NONREF" in dict(seen)) == skips


def test_only_wanted_frames_are_converted_to_pixels(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    write_video(path, numbered_frames(60), options={"crf": "0", "g": "10"})
    decoded = []
    upright = decode_module.upright
    monkeypatch.setattr(decode_module, "upright", lambda *x: decoded.append(x) or upright(*x))
    pick(path, [5, 6, 59, 59])
    assert len(decoded) == 3


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, 0, -1, 0, 0), -1),  # a phone held upright: shown after a quarter turn clockwise
        ((-1, 0, 0, 0, -1, 0), 2),
        ((0, -1, 0, 1, 0, 0), 1),
    ],
)
def test_rotation_is_applied(tmp_path, matrix, turn):
    path = tmp_path / "a.mp4"
    frames = np.zeros((2, 32, 48, 3), np.uint8)
    frames[:, :16, :24] = 255  # the top left quarter
    write_video(path, frames, options={"crf": "0"})
    turn_video(path, matrix)
    assert np.abs(read_frames(path).astype(int) - np.rot90(frames, turn, (1, 2))).max() < 8


def remux(source, target, change):
    """Copy the packets that `change` returns into another file."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in change([packet for packet in old.demux(video=0) if packet.size], stream):
            packet.stream = stream
            new.mux(packet)


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg"])
def test_avi_with_repeated_frames_is_truncated_only_if_it_is_cut(tmp_path, codec):
    """AVI stores an empty chunk where time passes without a frame, and its header counts these, too."""
    path, rng = tmp_path / "a.avi", np.random.default_rng(0)
    frames = rng.integers(0, 256, (40, 96, 96, 3), dtype=np.uint8)
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    write_video(path, frames, codec=codec, pix_fmt=pixels, times=[i + i // 5 for i in range(40)])
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 47
    images = read_frames(path)
    assert len(images) == 40 and np.array_equal(pick(path, [39, 0, 20]), images[[39, 0, 20]])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(TruncatedError, match="header declares"):
        read_video(path)


def test_vp8_packets_that_are_never_shown_are_no_frames(tmp_path):
    write_video(
        tmp_path / "a.mkv", numbered_frames(20), codec="libvpx", options={"g": "10", "crf": "4", "b": "2M"}
    )

    def hide(packets, stream):
        for i, packet in enumerate(packets):
            content = bytearray(bytes(packet))
            if i in (3, 12):
                content[0] &= ~0x10  # the bit that says it is shown
            hidden = av.Packet(bytes(content))
            hidden.pts, hidden.dts, hidden.time_base = packet.pts, packet.dts, packet.time_base
            hidden.is_keyframe = packet.is_keyframe
            yield hidden

    remux(tmp_path / "a.mkv", tmp_path / "b.mkv", hide)
    video = read_video(tmp_path / "b.mkv")
    assert video.has_timestamps and len(video) == 18
    left = [i for i in range(20) if i not in (3, 12)]
    assert numbers_of(read_frames(video)) == left
    assert numbers_of(read_frames(video, lambda n: [4, 17])) == [left[4], left[17]]


@pytest.mark.parametrize(("gop", "cut"), [(40, 10), (10, 25), (10, 20)])
def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path, gop, cut):
    """A cut inside a GOP leaves frames that are decoded but not shown; the header counts all 40."""

    def earlier(packets, _):
        for packet in packets:
            packet.pts, packet.dts = packet.pts - cut * 1024, packet.dts - cut * 1024
            yield packet

    options = {"crf": "0", "bf": "0", "g": str(gop), "x264-params": f"min-keyint={gop}:scenecut=0"}
    write_video(tmp_path / "whole.mp4", numbered_frames(40), options=options)
    remux(tmp_path / "whole.mp4", tmp_path / "cut.mp4", earlier)
    assert len(read_video(tmp_path / "cut.mp4")) == 40 - cut
    assert numbers_of(read_frames(tmp_path / "cut.mp4")) == list(range(cut, 40))
    assert numbers_of(pick(tmp_path / "cut.mp4", [39 - cut, 1])) == [39, cut + 1]


def test_frames_with_equal_times_are_all_kept(tmp_path):
    def pair(packets, _):
        for packet in packets:
            packet.pts = packet.dts = packet.pts // 100 * 100
            yield packet

    write_video(tmp_path / "a.mkv", numbered_frames(40), options={"crf": "0", "bf": "0", "g": "8"}, rate=20)
    remux(tmp_path / "a.mkv", tmp_path / "b.mkv", pair)
    assert len(read_video(tmp_path / "b.mkv")) == 40
    assert numbers_of(pick(tmp_path / "b.mkv", [39, 0, 12, 13])) == [39, 0, 12, 13]


def test_packed_b_frames_are_in_display_order(tmp_path):
    """DivX and Xvid put a B-frame into the packet of the next frame and add an empty packet."""

    def pack(packets, _):
        start = b"\0\0\1\xb6"
        kinds = [bytes(x)[bytes(x).index(start) + 4] >> 6 for x in packets]  # 0: I, 1: P, 2: B
        for i, packet in enumerate(packets):
            data = bytes(packet)
            if kinds[i] == 0:
                data = data.replace(start, b"\0\0\1\xb2DivX503b1393p" + start, 1)
            if i + 1 < len(packets) and kinds[i + 1] == 2:
                data += bytes(packets[i + 1])
            elif kinds[i] == 2:
                data = start + b"\x52\x40\x7f"
            new = av.Packet(data)
            new.dts, new.time_base, new.is_keyframe = i, Fraction(1, 25), kinds[i] == 0
            yield new

    options = {"bf": "1", "g": "24", "b_strategy": "0", "b": "1M"}
    write_video(tmp_path / "plain.avi", moving(60), codec="mpeg4", options=options, rate=25)
    remux(tmp_path / "plain.avi", tmp_path / "packed.avi", pack)
    whole, wanted = plain(tmp_path / "plain.avi"), [59, 0, 31, 32, 33]
    assert len(read_video(tmp_path / "packed.avi")) == 60
    assert np.array_equal(read_frames(tmp_path / "packed.avi"), whole)
    assert np.array_equal(pick(tmp_path / "packed.avi", wanted), whole[wanted])


def without_reordering_depth(sps):
    """A sequence parameter set of x264, high profile, without the fields about frame reordering."""
    bits, at = "".join(f"{x:08b}" for x in sps[1:].replace(b"\0\0\3", b"\0\0")), 0
    for field in "888eeee11eeee1ee111":  # 8 bits, 1 bit, or a number whose leading zeros tell its length
        at += int(field) if field != "e" else 2 * (bits.index("1", at) - at) + 1
    bits = bits[:at] + "01"
    data = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    return sps[:1] + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", data)


def test_h264_without_a_reordering_depth_loses_no_frames(tmp_path):
    def strip(packets, stream):
        extra = bytes(stream.codec_context.extradata)
        size = int.from_bytes(extra[6:8], "big")
        sps = without_reordering_depth(extra[8 : 8 + size])
        stream.codec_context.extradata = extra[:6] + struct.pack(">H", len(sps)) + sps + extra[8 + size :]
        return packets

    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    frames = np.concatenate([noise, np.repeat(moving(1), 20, 0)])  # reordered only in the second half
    write_video(tmp_path / "a.mkv", frames, options={"profile": "high", "bf": "5"})
    remux(tmp_path / "a.mkv", tmp_path / "b.mkv", strip)
    whole = plain(tmp_path / "a.mkv")
    assert len(plain(tmp_path / "b.mkv")) < len(whole)  # so the setting matters
    assert np.array_equal(read_frames(tmp_path / "b.mkv"), whole)
    assert np.array_equal(pick(tmp_path / "b.mkv", [30, 7]), whole[[30, 7]])


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


def test_a_folder_of_frames_is_read_in_the_order_of_its_numbers(tmp_path):
    folder = tmp_path / "100% frames"
    folder.mkdir()
    for i, frame in enumerate(numbered_frames(12)):
        write_video(folder / f"img_{i + 1}.png", frame[None], codec="png", pix_fmt="rgb24", rate=25)
    assert is_video(folder)
    assert read_video(folder).seconds is None
    assert numbers_of(pick(folder, [11, 1, 0])) == [11, 1, 0]


@pytest.mark.parametrize(
    "name",
    [
        "with space.mp4",
        "ünïcode #1 (2).mp4",
        "a:b.mp4",
        "50%d.mp4",
        "x;y&z!.mp4",
        "-i.mp4",
        "#.mp4",
        "http:x.mp4",
        "'\"\\.mp4",
        "a\nb.mp4",
    ],
)
def test_special_characters_in_names(tmp_path, monkeypatch, name):
    write_video(tmp_path / "plain.mp4", numbered_frames(3))
    (tmp_path / "plain.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read_frames(tmp_path / name)) == len(read_frames(name)) == 3


# Parts of a video


def test_a_part_is_the_frames_between_two_times(tmp_path):
    path = tmp_path / "a.mkv"
    write_video(path, numbered_frames(40), options={"crf": "0", "g": "10"}, rate=10, times=range(7, 47))
    assert [len(read_video(path, k / 10)) for k in range(40)] == list(range(40, 0, -1))
    part = read_video(path, 1.2, 2.5)
    assert len(part) == 13 and part.seconds == pytest.approx(1.3)
    assert numbers_of(read_frames(part)) == list(range(12, 25))
    assert numbers_of(read_frames(part, lambda count: [count - 1, 0])) == [24, 12]
    assert numbers_of(read_frames(read_video(path, end=0.3))) == [0, 1, 2]
    last = read_video(path, 3.7, 99)
    assert numbers_of(read_frames(last)) == [37, 38, 39] and last.seconds == pytest.approx(0.3)
    with pytest.raises(DataError, match="frames .* asked for, it has 13"):
        read_frames(part, lambda count: [13])


def test_adjacent_parts_share_no_frame_and_lose_none(tmp_path):
    times = [0, 1, 2, 10, 11, 30, 31, 32, 33, 60]
    write_video(tmp_path / "a.mp4", numbered_frames(10), options={"crf": "0"}, times=times, rate=10)
    cuts = [0, 0.1, 1.05, 3.1, 3.3, 6.5]
    parts = [read_video(tmp_path / "a.mp4", *window) for window in zip(cuts, cuts[1:], strict=False)]
    assert sum((numbers_of(read_frames(part)) for part in parts), []) == list(range(10))
    assert sum(part.seconds for part in parts) == pytest.approx(read_video(tmp_path / "a.mp4").seconds)


def test_part_of_a_long_video_is_reached_by_one_seek(tmp_path, seen):
    path = tmp_path / "a.mp4"
    write_video(path, moving(600, 16, 16), options={"x264-params": "keyint=20:scenecut=0"}, rate=20)
    frames = read_frames(read_video(path, 25.0, 26.0))
    assert np.array_equal(frames, plain(path)[500:520])
    kinds, times = zip(*seen, strict=True)
    assert kinds.count("seek") == 1 and len(times) < 50


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ((1, 1), "1 to 1 s is not a part of the video"),
        ((2, 1), "2 to 1 s is not a part"),
        ((-1, 1), "-1 to 1 s is not a part"),
        ((float("nan"), 1), "nan to 1 s is not a part"),
        ((0, float("nan")), "0 to nan s is not a part"),
        ((1, None), "no frame in 1 to the end s, it has 0.25 s"),
        ((0.01, 0.02), "no frame in 0.01 to 0.02 s"),
    ],
)
def test_a_part_without_frames_is_refused(tmp_path, window, words):
    write_video(tmp_path / "a.mp4", numbered_frames(3))
    with pytest.raises(DataError, match=re.escape(words)):
        read_video(tmp_path / "a.mp4", *window)


def test_frames_without_a_rate_have_no_parts(tmp_path):
    write_video(tmp_path / "1.png", numbered_frames(1), codec="png", pix_fmt="rgb24")
    with pytest.raises(DataError, match="without a rate"):
        read_video(tmp_path, 0, 1)


# Frames above the size limit


def patched(content, at, *numbers, layout=">II"):
    data = struct.pack(layout, *numbers)
    return content[:at] + data + content[at + len(data) :]


def claim(path, width, height):
    """Write another frame size into the header of an MP4 file than its stream has."""
    content = path.read_bytes()
    path.write_bytes(
        patched(content, content.index(b"avc1", content.index(b"stsd")) + 28, width, height, layout=">HH")
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi", ".gif", ".mpg"])
def test_a_frame_above_the_limit_is_refused(tmp_path, monkeypatch, suffix):
    codecs = {".gif": ("gif", "rgb8"), ".avi": ("mpeg4", "yuv420p"), ".mpg": ("mpeg2video", "yuv420p")}
    codec, pix_fmt = codecs.get(suffix, ("libx264", "yuv420p"))
    write_video(tmp_path / f"a{suffix}", moving(3, 50, 66), codec=codec, pix_fmt=pix_fmt, rate=25)
    monkeypatch.setenv("VIDEOSSP_MAX_PIXELS", str(66 * 50))
    assert len(read_frames(tmp_path / f"a{suffix}")) == 3  # margins of the codec do not count
    monkeypatch.setenv("VIDEOSSP_MAX_PIXELS", str(66 * 50 - 1))
    with pytest.raises(DataError, match="66x50 is larger than the limit of 3299 pixels .VIDEOSSP_MAX_PIXELS"):
        read_frames(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        (".png", "png", "rgb24"),
        (".jpg", "mjpeg", "yuvj420p"),
        (".bmp", "bmp", "bgr24"),
        (".webp", "libwebp", "yuv420p"),
    ],
)
def test_an_image_above_the_limit_is_refused(tmp_path, monkeypatch, suffix, codec, pix_fmt):
    write_video(tmp_path / f"1{suffix}", moving(1), codec=codec, pix_fmt=pix_fmt)
    monkeypatch.setenv("VIDEOSSP_MAX_PIXELS", str(64 * 48))
    assert len(read_frames(tmp_path)) == 1
    monkeypatch.setenv("VIDEOSSP_MAX_PIXELS", str(64 * 47))
    with pytest.raises(DataError, match=f"1{suffix}: a frame of 64x48 is larger than the limit of 3008 "):
        read_frames(tmp_path)


def test_a_frame_larger_than_its_header_says_is_refused(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", moving(3, 200, 320))
    claim(tmp_path / "a.mp4", 64, 48)
    monkeypatch.setenv("VIDEOSSP_MAX_PIXELS", "10000")
    with pytest.raises(DataError, match="320x2.. is larger than the limit of 10000 pixels"):
        read_frames(tmp_path / "a.mp4")


def test_frames_that_grow_above_the_limit_are_refused(tmp_path, monkeypatch):
    write_video(tmp_path / "small.ts", moving(10), rate=25)
    write_video(tmp_path / "large.ts", moving(10, 96, 128), times=range(20, 30), rate=25)
    (tmp_path / "a.ts").write_bytes(
        (tmp_path / "small.ts").read_bytes() + (tmp_path / "large.ts").read_bytes()
    )
    assert pick(tmp_path / "a.ts", [0, 19]).shape == (2, 48, 64, 3)
    monkeypatch.setenv("VIDEOSSP_MAX_PIXELS", "6000")
    assert pick(tmp_path / "a.ts", [0, 9]).shape == (2, 48, 64, 3)
    with pytest.raises(DataError, match="128x96 is larger than the limit of 6000 pixels"):
        pick(tmp_path / "a.ts", [0, 19])


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="asks Linux for the memory")
@pytest.mark.parametrize("name", ["1.png", "a.mkv", "a.mp4"])
def test_a_frame_above_the_limit_takes_no_memory(tmp_path, name):
    """Not even for a moment: the test compares the peak of the address space."""
    if name == "1.png":  # 768 MB in 100 bytes

        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 16000, 16000, 8, 2, 0, 0, 0))
        image = (
            b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
        )
        (tmp_path / name).write_bytes(image)
    else:  # frames of 50 MB
        write_video(tmp_path / name, np.zeros((2, 4096, 4096, 3), np.uint8), options={"preset": "ultrafast"})
        if name == "a.mp4":
            claim(tmp_path / name, 64, 48)
    write_video(
        tmp_path / "small" / name,
        moving(1),
        codec="png" if name == "1.png" else "libx264",
        pix_fmt="rgb24" if name == "1.png" else "yuv420p",
    )
    code = """if True:
        import re, sys
        from videossp.data.video import read_frames
        from videossp import DataError
        peak = lambda: int(re.search(r"VmPeak:\\s*([0-9]+)", open("/proc/self/status").read())[1])
        read_frames(sys.argv[1])
        before = peak()
        try:
            read_frames(sys.argv[2])
        except DataError as error:
            print(peak() - before, error)
    """
    folder = name == "1.png"
    paths = [tmp_path / "small" / ("" if folder else name), tmp_path / ("" if folder else name)]
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)],
        env=os.environ | {"VIDEOSSP_MAX_PIXELS": "10000"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    kilobytes, message = result.stdout.split(" ", 1)
    assert "is larger than the limit of 10000 pixels" in message and int(kilobytes) < 40_000


@pytest.mark.parametrize("value", ["", "8K", "-1", "0", "1e6", "1.5"])
def test_invalid_limit_is_one_clear_line(tmp_path, monkeypatch, value):
    write_video(tmp_path / "a.mp4", numbered_frames(3))
    monkeypatch.setenv("VIDEOSSP_MAX_PIXELS", value)
    with pytest.raises(ValueError, match="VIDEOSSP_MAX_PIXELS must be a number of pixels") as error:
        read_frames(tmp_path / "a.mp4")
    assert "\n" not in str(error.value) and not isinstance(error.value, DataError)


def test_8k_is_within_the_limit(monkeypatch):
    monkeypatch.delenv("VIDEOSSP_MAX_PIXELS", raising=False)
    assert max_pixels() >= 8192 * 4320


# Damaged files


def damaged(path, kind):
    rng = np.random.default_rng(0)
    if kind in ("audio", "cover"):
        with av.open(str(path), "w", format="mp3") as container:
            sound = container.add_stream("libmp3lame", rate=44100)
            if kind == "cover":
                cover = container.add_stream("mjpeg", rate=1)
                cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
                cover.disposition = Disposition.attached_pic
                frame = av.VideoFrame.from_ndarray(numbered_frames(1)[0], format="rgb24")
                frame.pts, frame.time_base = 0, Fraction(1)
                container.mux(cover.encode(frame))
            samples = av.AudioFrame.from_ndarray(
                np.zeros((1, 4096), np.float32), format="fltp", layout="mono"
            )
            samples.sample_rate = 44100
            container.mux(sound.encode(samples))
            container.mux(sound.encode())
            if kind == "cover":
                container.mux(cover.encode())
        return
    codecs = {".avi": "mpeg4", ".webm": "libvpx-vp9"}
    mux = {"movflags": "faststart"} if kind == "cut" and path.suffix == ".mp4" else {}
    write_video(path, moving(40), codec=codecs.get(path.suffix, "libx264"), mux=mux)
    content = path.read_bytes()
    half = content[: len(content) // 2]
    start = len(half)
    bits = content[:start] + rng.integers(0, 256, 4000, dtype=np.uint8).tobytes() + content[start + 4000 :]
    other = content.replace(b"avc1\0\0", b"zzzz\0\0")
    path.write_bytes(
        {
            "cut": half,
            "headless": half,
            "bits": bits,
            "empty": b"",
            "text": b"this is no video at all\n",
            "codec": other,
            "zeros": bytes(10_000),
        }[kind]
    )


@pytest.mark.parametrize(
    ("name", "kind", "error", "words"),
    [
        ("a.mp4", "cut", TruncatedError, "truncated: the header declares 40 frames"),
        ("a.avi", "cut", TruncatedError, "truncated: the header declares 40 frames"),
        ("a.mkv", "cut", TruncatedError, "truncated: the header declares .* bytes, .* were found"),
        ("a.webm", "cut", TruncatedError, "truncated: the header declares .* bytes, .* were found"),
        (
            "a.mp4",
            "headless",
            TruncatedError,
            "truncated: the index .moov atom. at the end is missing",
        ),
        ("a.mp4", "bits", DataError, "damaged"),
        ("a.mp4", "empty", NoVideoError, "the file is empty"),
        ("a.mp4", "text", DataError, "not a readable video"),
        ("a.mp4", "zeros", DataError, "not a readable video"),
        ("a.mp4", "audio", NoVideoError, "no video stream"),
        ("a.mp4", "cover", NoVideoError, "no video stream"),
        ("a.mp4", "codec", DataError, "there is no decoder for its codec"),
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path, name, kind, error, words):
    path = tmp_path / name
    damaged(path, kind)
    for _ in range(2):
        with pytest.raises(error, match=words) as raised:
            read_frames(path)
        assert type(raised.value) is error
        assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("seed", range(6))
def test_frames_that_depend_on_a_damaged_one_are_refused_and_others_are_right(tmp_path, seed):
    """The H.264 decoder conceals damage and flags that frame, but not the frames that depend on it."""
    path, gop = tmp_path / "a.mp4", 12
    options = {"x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0", "threads": "1"}
    write_video(path, moving(48), options=options)
    whole, content = plain(path), bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    first, corrupt = content.index(b"mdat") + 2000, None
    while corrupt is None:  # a flip that the decoder notices
        at = int(rng.integers(first, content.index(b"moov") - 100))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << rng.integers(8)]) + content[at + 1 :])
        with av.open(str(path)) as container, suppress(av.FFmpegError):
            corrupt = next((i for i, x in enumerate(container.decode(video=0)) if x.is_corrupt), None)
    end = (corrupt // gop + 1) * gop
    for i in range(48):
        if corrupt <= i < end:
            with pytest.raises(DataError, match=f"damaged: frame {corrupt} of 48 is corrupt"):
                pick(path, [i])
        elif i < corrupt - gop or i >= end:
            assert np.array_equal(pick(path, [i])[0], whole[i])


def test_missing_and_empty_paths(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        read_frames(tmp_path / "none.mp4")
    with pytest.raises(DataError, match="no such file or folder"):
        read_frames(tmp_path / "none.mp4" / "below.mp4")
    with pytest.raises(DataError, match="cannot be read"):
        read_frames("a" * 5000 + ".mp4")
    with pytest.raises(DataError, match="cannot be read"):
        read_frames("a\0.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(NoVideoError, match="holds no frames"):
        read_frames(tmp_path / "folder.mp4")
    (tmp_path / "img_1.png").write_bytes(b"")
    with pytest.raises(DataError, match="img_1.png: not a readable image"):
        read_frames(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["a.mp4", "1.png"])
def test_pipes_and_devices_are_refused_at_once(tmp_path, kind, name):
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    code = "import sys; from videossp.data.video import read_frames; read_frames(sys.argv[1])"
    path = tmp_path / name if name == "a.mp4" else tmp_path
    # In another process, because nothing else ends a read that waits for ever.
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=300)
    assert f"DataError: {tmp_path / name}: not a regular file" in result.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission_is_one_line(tmp_path):
    write_video(tmp_path / "a" / "a.mp4", numbered_frames(3))
    (tmp_path / "a" / "a.mp4").chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        read_frames(tmp_path / "a" / "a.mp4")
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(DataError, match="Permission denied"):
            read_frames(tmp_path / "a" / "a.mp4")
        with pytest.raises(DataError, match="Permission denied"):
            read_frames(tmp_path / "a")
    finally:
        (tmp_path / "a").chmod(0o700)


def test_a_folder_with_a_broken_frame_or_another_size_is_refused(tmp_path):
    for i, frames in enumerate([numbered_frames(1), numbered_frames(1, 32, 32), numbered_frames(1)]):
        write_video(tmp_path / f"{i}.png", frames, codec="png", pix_fmt="rgb24")
    with pytest.raises(DataError, match="the frame size changes within the video"):
        read_frames(tmp_path)
    assert len(pick(tmp_path, [0, 2, 2])) == 3
    content = (tmp_path / "2.png").read_bytes()
    for broken in (content[:50], b"no image", b""):
        (tmp_path / "2.png").write_bytes(broken)
        with pytest.raises(DataError, match="2.png: not a readable image"):
            pick(tmp_path, [0, 2])


def test_indices_outside_the_video_are_refused(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(3))
    for wanted in ([3], [-1], []):
        with pytest.raises(DataError, match="it has 3"):
            pick(tmp_path / "a.mp4", wanted)


def test_a_single_frame_is_a_video(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(1))
    assert len(pick(tmp_path / "a.mp4", [0] * 8)) == 8
    assert read_video(tmp_path / "a.mp4").seconds == pytest.approx(1 / 12)


def test_rewritten_file_is_read_again(tmp_path):
    write_video(tmp_path / "a.mp4", numbered_frames(3))
    assert len(read_frames(tmp_path / "a.mp4")) == 3
    write_video(tmp_path / "a.mp4", numbered_frames(5))
    assert len(read_frames(tmp_path / "a.mp4")) == 5


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Content of small videos by suffix."""
    folder = tmp_path_factory.mktemp("small")
    write_video(folder / "a.mp4", moving(24), options={"g": "8", "bf": "3"}, mux={"movflags": "faststart"})
    write_video(folder / "a.avi", moving(24), codec="mpeg4", options={"g": "8", "bf": "2"})
    write_video(folder / "a.webm", moving(24), codec="libvpx-vp9", options={"g": "8"})
    write_video(folder / "tiny.mp4", moving(3, 16, 16))
    return {path.name: path for path in folder.iterdir()}


FUZZ = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(wanted=st.lists(st.integers(0, 23), min_size=1, max_size=10))
def test_any_list_of_frames_in_any_order(small, wanted):
    assert np.array_equal(pick(small["a.mp4"], wanted), plain(small["a.mp4"])[wanted])


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.webm"])
@FUZZ
@given(
    changes=st.lists(
        st.tuples(
            st.floats(0, 1), st.sampled_from(["flip", "cut", "insert"]), st.binary(min_size=1, max_size=8)
        ),
        min_size=1,
        max_size=4,
    ),
    head=st.booleans(),
)
def test_any_damage_gives_frames_or_a_data_error(small, tmp_path, name, changes, head):
    content = bytearray(small[name].read_bytes())
    for place, kind, data in changes:
        at = int(place * (min(len(content), 1500) if head else len(content)))  # headers, or anywhere
        if kind == "cut" and not head:
            content = content[:at]
        else:
            content[at : at + (len(data) if kind == "flip" else 0)] = data
    (tmp_path / name).write_bytes(content)
    index_module._scan.cache_clear()
    with time_limit(300):
        try:
            frames = read_frames(tmp_path / name, lambda count: [0, count // 2, count - 1])
        except DataError as error:
            assert name in str(error) and "\n" not in str(error)
        else:
            assert frames.shape[0] == 3 and frames.dtype == np.uint8


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="asks Linux for the memory")
@pytest.mark.parametrize("kind", ["whole", "bits", "cut", "text"])
def test_thousands_of_decodes_keep_the_memory_flat(tmp_path, small, kind):
    path, content = tmp_path / "a.mp4", small["tiny.mp4"].read_bytes()
    middle = content.index(b"mdat") + 700
    path.write_bytes(
        {
            "whole": content,
            "bits": content[:middle] + bytes(range(100)) + content[middle + 100 :],
            "cut": content[: len(content) // 2],
            "text": b"this is no video at all\n",
        }[kind]
    )

    code = """if True:
        import ctypes, os, sys
        from videossp import DataError
        from videossp.data import video
        from videossp.data.video import index

        names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
        info = type("", (ctypes.Structure,), {"_fields_": [(x, ctypes.c_size_t) for x in names]})
        ask = getattr(ctypes.CDLL(None), "mallinfo2", info)
        ask.restype = info

        def decode(times):
            for _ in range(times):
                index._scan.cache_clear()
                try:
                    video.read_frames(sys.argv[1], lambda count: [2, 0, 1, 1])
                except DataError:
                    assert sys.argv[2] != "whole"
                else:
                    assert sys.argv[2] == "whole"
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"), ask().uordblks

        warm = decode(500)
        print(*(after - before for before, after in zip(warm, decode(4500))))
    """
    command = [sys.executable, "-c", code, path, kind]
    grown = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=300, check=True).stdout
    resident, in_use = map(int, grown.split())  # glibc counts what is in use to the byte, elsewhere 0
    assert resident < 3_000_000 and in_use < 100_000


class Decoded(Dataset):
    """Frames of a video, decoded in the process that asks for an item."""

    def __init__(self, path):
        self.path = path

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return read_frames(read_video(self.path, 0.25), lambda count: [i, count - 1 - i])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_decode_the_same_frames(small, start):
    data = Decoded(str(small["a.mp4"]))
    expected = [data[i] for i in range(len(data))]  # this process decodes before it starts others
    loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context=start, timeout=300)
    assert all(np.array_equal(a, b) for a, b in zip(loader, expected, strict=True))
