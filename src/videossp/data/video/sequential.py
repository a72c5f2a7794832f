"""Decoding from the start: the frames as the decoder gives them. They define which frame is which."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from av.error import FFmpegError

from videossp.data.video.codecs import UNGUARDED

if TYPE_CHECKING:
    import av


def usable_frames(
    packets: Iterable["av.Packet[av.VideoStream]"], stream: "av.VideoStream"
) -> Iterator["av.VideoFrame"]:
    """The frames of all packets, from the first one that can be decoded.

    A recording may begin between two key frames. Most decoders give no frame until the first key frame, and
    some report errors. The decoders of `UNGUARDED` give grey frames, which are left out here.

    Raises:
        FFmpegError: a packet cannot be decoded, and it is a key frame or after one.
    """
    usable, after_key = stream.codec_context.name not in UNGUARDED, False
    for packet in packets:
        after_key = after_key or packet.is_keyframe
        try:
            frames = packet.decode()
        except FFmpegError:
            if after_key:
                raise
            continue
        for frame in frames:
            usable = usable or frame.key_frame
            if usable:
                yield frame
