"""The packets of a video file, as its container describes them; the decoder has to confirm this."""

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from av.error import FFmpegError

from videossp.data.video.codecs import is_intra_only, marks_keys, never_reorders
from videossp.data.video.container import head_of, open_stream, packets_of, video_streams
from videossp.data.video.units import field_flag_place, is_one_field, starts_with_idr
from videossp.errors import DataError, TruncatedError

if TYPE_CHECKING:
    import av

# DivX and Xvid can pack a B-frame into the packet of the frame before it; their times are then swapped.
# Such a stream is marked.
PACKED = re.compile(rb"DivX\d+(b|Build)\d+p")
# An MPEG-4 packet of at most so many bytes codes no frame: it says that the frame before is shown for longer.
# A frame has at least 51 bits, and one for each macroblock.
NOT_CODED, MACROBLOCKS = 8, 14


@dataclass(frozen=True)
class Packets:
    """The packets of the video stream of a file.

    Attributes:
        times: presentation time of each packet with a frame that is shown, in the order of the file.
        keys: times of the packets that are marked as key frames.
        coded: number of frames in the packets.
        unit: seconds per unit of the times.
        duration: duration of the last packet; 0 if unknown.
        timed: whether packets have the times of frames, as far as the format tells.
        invented: whether the container stores no times, and FFmpeg invents them.
        intra_only: whether each frame is coded alone.
        confirmable: whether the decoder can confirm each packet: it marks the key frames, so that those of
            the container can be confirmed, or each frame is one, and each packet gives one frame.
        never_reorders: whether frames of the codec are always coded in the order in which they are shown.
        starts: whether the decoder can start at the first packet.
        steady: whether the times at which packets are decoded never decrease; True if they are not stored.
        reorders: whether the decoder shows frames in another order than they are coded; None: not asked.
        streams: number of video streams in the file.
        size: (width, height) of the first frame, if it was decoded; else that of the header.
    """

    times: list[int | None]
    keys: list[int | None]
    coded: int
    unit: Fraction | None
    duration: int
    timed: bool
    invented: bool
    intra_only: bool
    confirmable: bool
    never_reorders: bool
    starts: bool
    steady: bool
    reorders: bool | None
    streams: int
    size: tuple[int, int]


def read_packets(path: Path) -> Packets:
    """Read the packets of a file, and decode the first one unless its bytes show that it is a key frame.

    Raises:
        TruncatedError: the file ends before the end that its header declares.
        DataError: the file is encrypted.
    """
    if (end := _matroska_end(path)) > (size := path.stat().st_size):
        raise TruncatedError(f"{path}: truncated: the header declares {end} bytes, {size} were found")
    times: list[int | None] = []
    keys: list[int | None] = []
    coded, intact, duration, packed = 0, 0, 0, False
    starts, reorders = False, None
    place: int | None = None  # of the flag of fields
    repeats = False
    steady, before = True, -math.inf  # the time at which the packet before is decoded
    clock: list[int] = []  # decoding times of the first and the last intact packet
    with open_stream(path) as (container, stream), packets_of(container, stream) as packets:
        context, is_avi = stream.codec_context, container.format.name == "avi"
        frame_size = stream.width, stream.height
        confirmable = is_intra_only(context) or marks_keys(context)
        stores_dts = "matroska" not in container.format.name  # FFmpeg's guesses can decrease
        for packet in packets:
            if packet.size == 0:
                continue
            if not packet.is_corrupt:
                intact += 1
                if is_avi and packet.dts is not None:
                    clock[1:] = [packet.dts]
            if not coded:
                if packet.has_sidedata("encryption_info"):
                    raise DataError(f"{path}: the video is encrypted; decrypt it first")
                packed = bool(PACKED.search(bytes(packet) + (context.extradata or b"")))
                place = field_flag_place(context, bytes(packet))
                if is_intra_only(context) or starts_with_idr(context, bytes(packet)):
                    starts = True
                elif marks_keys(context):
                    frame, reorders = first_frame(context, packet)
                    starts = frame is not None and frame.key_frame
                    frame_size = (frame.width, frame.height) if frame else frame_size
            if context.name == "vp8" and not bytes(packet)[0] & 0x10:
                continue  # an alternate reference frame: others refer to it, but it is never shown
            repeats = packet.size <= NOT_CODED and context.name == "mpeg4" and not packed
            if repeats and stream.width * stream.height >= MACROBLOCKS * 16 * 16:
                continue
            confirmable = confirmable and not repeats  # here the header gives no size, or a tiny one
            if confirmable and place is not None:
                confirmable = not is_one_field(context, bytes(packet), place)
            # A packed frame leaves a packet of a few bytes that codes nothing.
            coded += bytes(packet).count(b"\x00\x00\x01\xb6") - (packet.size < 20) if packed else 1
            # Frames hidden by an edit list are decoded, because others refer to them, but not shown.
            if not packet.is_discard:
                times.append(packet.pts)
            if stores_dts and packet.dts is not None:
                steady, before = steady and packet.dts >= before, packet.dts
            if packet.is_keyframe:
                keys.append(packet.pts)
            duration = packet.duration or 0
        confirmable = confirmable and not repeats  # at the end, the decoder shows the frame before once more
        declared, spare = stream.frames, max(2, stream.frames // 100)
        if len(clock) > 1:
            # An AVI declares its length in units of its clock, of which a frame can take several.
            step = -(-(clock[1] - clock[0]) // max(1, intact - 1))
            intact, spare = clock[1] + step, max(spare, step)
        if "mov" in container.format.name and len(index := stream.index_entries):
            # The header also counts the frames that an edit list cuts off; the index does not.
            cut = index[-1].pos + index[-1].size > size
            declared, spare = (len(index), 0) if cut else (0, 0)
        if declared - intact > spare:
            found = f"the header declares {declared} frames, {intact} were found"
            raise TruncatedError(f"{path}: truncated: {found}")
        return Packets(
            times,
            keys,
            coded,
            stream.time_base,
            duration,
            # For these codecs FFmpeg invents the times in the wrong order.
            timed=not packed and not (is_avi and context.name in ("h264", "hevc")),
            invented=is_avi,
            intra_only=is_intra_only(context),
            confirmable=confirmable,
            never_reorders=never_reorders(context),
            starts=starts,
            steady=steady,
            reorders=reorders,
            streams=len(video_streams(container)),
            size=frame_size,
        )


def first_frame(
    context: "av.VideoCodecContext", packet: "av.Packet[av.VideoStream]"
) -> "tuple[av.VideoFrame | None, bool]":
    """(The frame that the packet alone gives, whether the decoder reorders frames)."""
    with suppress(FFmpegError):
        frames = context.decode(packet) + context.decode(None)
        context.flush_buffers()
        return (frames[0] if frames else None), bool(context.has_b_frames)
    return None, True


def _matroska_end(path: Path) -> int:
    """Position at which a Matroska or WebM file should end; 0 if unknown, or for other files."""

    def number(at: int) -> tuple[int, int]:
        """(value, width) of an integer whose leading zero bits give its width in bytes; -1: unknown."""
        width = 9 - head[at].bit_length()
        value = int.from_bytes(head[at : at + width], "big") & (1 << 7 * width) - 1
        return (-1 if value == (1 << 7 * width) - 1 else value), width

    head = head_of(path)
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return 0
    value, width = number(4)
    segment = 4 + width + value
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return 0
    value, width = number(segment + 4)
    return segment + 4 + width + value if value >= 0 else 0
