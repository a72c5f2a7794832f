"""Packets that are no frame: one field of an interlaced frame, and MPEG-4 packets that code nothing."""

from fractions import Fraction

import av
import numpy as np
import pytest
from numbered import numbers, picture, reference, write

from videossp.data.video import read_frames, read_video
from videossp.data.video.container import open_stream
from videossp.data.video.units import field_flag_place

WIDTH, HEIGHT, CROPPED = 5, 4, 1  # macroblocks of a frame, and rows of them that are not shown


class Writer:
    """Bits of a unit (ITU-T H.264, 7.3 and 9.1)."""

    def __init__(self):
        self.bits = ""

    def number(self, *values_and_widths):
        for value, width in zip(values_and_widths[::2], values_and_widths[1::2], strict=True):
            self.bits += f"{value:0{width}b}"
        return self

    def codes(self, *values):
        for value in values:
            self.bits += f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1)
        return self

    def align(self):
        self.bits += "0" * (-len(self.bits) % 8)
        return self

    def unit(self, header):
        self.number(1, 1).align()
        content = int(self.bits, 2).to_bytes(len(self.bits) // 8, "big")
        out, zeros = bytearray(), 0
        for byte in content:
            if zeros == 2 and byte <= 3:
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([header]) + bytes(out)


def parameters():
    sequence = Writer().number(77, 8, 0, 8, 30, 8).codes(0, 4, 0, 4, 2).number(0, 1)
    sequence.codes(WIDTH - 1, HEIGHT // 2 - 1).number(0, 1, 0, 1)  # frames may be two fields
    sequence.number(1, 1, 1, 1).codes(0, 0, 0, 4 * CROPPED).number(0, 1)
    pictures = Writer().codes(0, 0).number(0, 1, 1, 1).codes(0, 0, 0).number(0, 1, 0, 2)
    pictures.codes(0, 0, 0).number(1, 1, 0, 1, 0, 1)
    return sequence.unit(0x67) + pictures.unit(0x68)


def field(planes, number, bottom):
    """A slice of uncompressed macroblocks; the top field of every sixth frame is a key frame."""
    key, place = number % 6 == 0 and not bottom, number % 6
    slice_ = Writer().codes(0, 7, 0).number(place, 8, 1, 1, bottom, 1)
    if key:
        slice_.codes(0)
    slice_.number(2 * place + bottom, 8, 0, 2 if key else 1).codes(0, 1)
    for block in range(WIDTH * HEIGHT // 2):
        row, column = divmod(block, WIDTH)
        slice_.codes(25).align()
        for plane, side in zip(planes, (16, 8, 8), strict=True):
            rows = plane[bottom::2][row * side : (row + 1) * side, column * side : (column + 1) * side]
            slice_.bits += "".join(f"{max(1, x):08b}" for x in rows.ravel().tolist())
    return slice_.unit(0x65 if key else 0x61)


def fields_of(number):
    """The two fields of a numbered frame."""
    frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24").reformat(format="yuv420p")
    flat, rows, width = frame.to_ndarray().ravel(), 16 * (HEIGHT - CROPPED), 16 * WIDTH
    luma, chroma = flat[: rows * width].reshape(rows, width), flat[rows * width :]
    planes = [luma, *chroma.reshape(2, rows // 2, width // 2)]
    planes = [np.pad(x, ((0, len(x) * CROPPED // (HEIGHT - CROPPED)), (0, 0)), "edge") for x in planes]
    top, bottom = (field(planes, number, x) for x in (0, 1))
    return b"\0\0\0\1\x09\xf0" + (parameters() if number % 6 == 0 else b"") + top, bottom


@pytest.fixture(scope="module")
def interlaced(tmp_path_factory):
    """(Fields of 14 frames, a raw stream of them)."""
    path = tmp_path_factory.mktemp("fields") / "a.h264"
    fields = [fields_of(i) for i in range(14)]
    path.write_bytes(b"".join(top + bottom for top, bottom in fields))
    return fields, path


@pytest.mark.parametrize("timed", [True, False], ids=["both fields have times", "the first one has a time"])
@pytest.mark.parametrize("name", ["a.ts", "a.mp4", "a.mkv", "a.avi", "a.flv", "a.mpg"])
def test_two_packets_with_a_field_each_are_one_frame(tmp_path, interlaced, name, timed):
    """As in recordings of camcorders (AVCHD) and of television, and in copies of them."""
    fields, raw = interlaced
    with av.open(str(raw)) as source, av.open(str(tmp_path / name), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, data in enumerate(x for pair in fields for x in pair):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 50), 1
            packet.is_keyframe = number % 12 == 0
            if timed or number % 2 == 0:
                packet.pts = packet.dts = number
            target.mux(packet)
    assert numbers(tmp_path / name) == list(range(14))
    assert numbers(tmp_path / name, [1]) == [1]
    assert numbers(tmp_path / name, [7, 12, 13]) == [7, 12, 13]


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("name", ["a.mp4", "a.ts"])
def test_interlaced_frames_in_one_packet_are_read_by_their_times(tmp_path, name, pixels):
    for more, has_fields in (("interlaced=1:bframes=0", True), ("bframes=2", False)):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"x264-params": f"keyint=6:{more}"})
            stream.width, stream.height, stream.pix_fmt = 80, 48, pixels
            for i in range(12):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
            container.mux(stream.encode())
        with open_stream(tmp_path / name) as (container, stream):
            data = bytes(next(container.demux(stream)))
            assert (field_flag_place(stream.codec_context, data) is not None) == has_fields
        video = read_video(tmp_path / name)
        assert video.has_timestamps and len(video.keys) > 1
        assert numbers(video, [11, 7, 8]) == [11, 7, 8]


def not_coded(vop):
    """A packet that says that the frame before is shown for longer, with the time of another packet."""
    data = bytes(vop)
    start = data.index(b"\0\0\1\xb6") + 4
    bits = "".join(f"{x:08b}" for x in data[start : start + 4])
    time = bits[2 : bits.index("0", 2) + 1 + 1 + 5 + 1]  # seconds, marker, 5 bits of the time, marker
    bits = f"01{time}00"
    bits += "1" * (-len(bits) % 8)
    return av.Packet(b"\0\0\1\xb6" + int(bits, 2).to_bytes(len(bits) // 8, "big"))


@pytest.mark.parametrize("last", [22, 24], ids=["within", "at the end"])
@pytest.mark.parametrize("size", [(80, 48), (32, 32)])
@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_mpeg4_packets_that_code_no_frame_are_no_frames(tmp_path, name, size, last):
    write(tmp_path / f"whole-{name}", "mpeg4", range(24), {"g": "12"}, size)
    hidden = {3, 9, *range(17, last)}
    with av.open(str(tmp_path / f"whole-{name}")) as old, av.open(str(tmp_path / name), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(x for x in old.demux(video=0) if x.size):
            copy = not_coded(packet) if number in hidden else packet
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.duration, copy.stream = packet.duration, stream
            new.mux(copy)
    frames, whole = reference(tmp_path / name)
    assert whole and len(frames) == (17 if last == 22 else 16)  # at the end, one is shown twice
    assert len(read_video(tmp_path / name)) == len(frames)
    for wanted in ([3], [2, 7, 14], range(len(frames))):
        images = read_frames(tmp_path / name, lambda count, wanted=wanted: wanted)
        assert np.array_equal(images, np.stack([frames[i] for i in wanted]))
