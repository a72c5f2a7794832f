"""`burn_in`: a copy of a recording with the class of each segment in the picture."""

import math
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from videossp.data.video import Video
from videossp.data.video.container import open_stream, packets_of, reason_of
from videossp.data.video.decode import scaled
from videossp.data.video.orientation import upright
from videossp.data.video.sequential import usable_frames
from videossp.errors import DataError
from videossp.reporting.caption import draw_caption
from videossp.watching.segment import Segment


def burn_in(video: Video, segments: Sequence[Segment], path: Path, until: float = math.inf) -> None:
    """Write a copy of a recording, H.264 in MP4 without sound, with the class and its probability.

    The file gets its name when it is complete. Frames keep their times; damaged ones are left out.

    Args:
        video: the recording.
        segments: in order.
        path: the .mp4 file.
        until: seconds after which the copy ends.

    Raises:
        DataError: the recording cannot be read.
        OSError: the file cannot be written.
    """
    draft = path.with_name(f".{path.stem}.unfinished.mp4")
    try:
        try:
            _encode(video, segments, draft, until)
        except FFmpegError as error:
            raise OSError(f"{path}: cannot be written: {reason_of(error)}") from error
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _encode(video: Video, segments: Sequence[Segment], path: Path, until: float) -> None:
    unit = video.unit
    if unit is None:
        raise DataError(f"{video.path}: frames without a rate")
    rate = Fraction(len(video) - 1) / ((video.times[-1] - video.times[0]) * unit) if len(video) > 1 else 25
    rest, current = iter(segments), None
    with (
        open_stream(video.path, probe=True) as (container, source),
        packets_of(container, source) as packets,
        av.open(str(path), "w") as target,
    ):
        stream: Any = None
        before = video.times[0] - 1
        for number, frame in enumerate(_undamaged(packets, source)):
            time = frame.pts if video.has_timestamps else number
            if time is None or time <= before:
                continue
            before = time
            seconds = float((time - video.times[0]) * unit)
            if seconds >= until:
                break
            pixels = upright(frame, video.path)
            if stream is None:
                stream = target.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
                height, width = pixels.shape[:2]
                # 4:2:0 needs an even size: the last row or column is repeated.
                stream.width, stream.height = width + width % 2, height + height % 2
                stream.pix_fmt, stream.time_base = "yuv420p", unit
                stream.codec_context.time_base = unit
                current = next(rest, None)
            pixels = np.array(scaled(pixels, height, width))
            while current and current.end <= seconds:
                current = next(rest, None)
            if current and current.start <= seconds:
                draw_caption(pixels, f"{current.label}  {100 * current.probability:.0f} %")
            padded = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            image = av.VideoFrame.from_ndarray(padded, format="rgb24")
            image.pts, image.time_base = time - video.times[0], unit
            target.mux(stream.encode(image))
        if stream is not None:
            target.mux(stream.encode(None))


def _undamaged(packets: Any, source: Any) -> Any:
    """The frames that can be decoded: the reader has reported the others."""
    ended = False
    while not ended:
        with suppress(FFmpegError):
            yield from (x for x in usable_frames(packets, source) if not x.is_corrupt)
            ended = True
