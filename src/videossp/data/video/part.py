"""`part_of`: a part of a video, by time or by frame numbers."""

from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING

from videossp.errors import DataError

if TYPE_CHECKING:
    from videossp.data.video.index import Video


def part_of(
    video: "Video", start: float | None, end: float | None, frames: tuple[int, int] | None = None
) -> "Video":
    """The frames of a video from `start` on and before `end`, in seconds from its first frame.

    Args:
        frames: (first, stop) in place of the times: the frames from number `first` on and before `stop`,
            counted from 0.

    Raises:
        DataError: the video has no such frames.
    """
    if frames is not None:
        first, stop = frames
        if not 0 <= first < stop <= len(video):
            raise DataError(f"{video.path}: frames {first} to {stop - 1} asked for, it has {len(video)}")
        return replace(video, first=first, stop=stop)
    if start is None and end is None:
        return video
    window = f"{start or 0:g} to {'the end' if end is None else f'{end:g}'} s"
    if video.unit is None:
        raise DataError(f"{video.path}: frames without a rate, {window} cannot be found in it")
    unit, zero = video.unit, video.times[0]
    if not 0 <= (start or 0) < (float("inf") if end is None else end):
        raise DataError(f"{video.path}: {window} is not a part of the video")

    def seconds(time: int) -> float:
        return float((time - zero) * unit)  # rounded once, like the number in an annotation file

    first = bisect_left(video.times, start or 0, key=seconds)
    stop = len(video.times) if end is None else bisect_left(video.times, end, key=seconds)
    if first >= stop:
        raise DataError(f"{video.path}: no frame in {window}, it has {video.seconds or 0:g} s")
    return replace(video, first=first, stop=stop)
