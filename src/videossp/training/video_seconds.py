"""`mean_seconds`: how long the training videos are; `watch` takes windows of this length."""

from collections.abc import Sequence
from contextlib import suppress

from videossp.data.datasets import Sample
from videossp.data.video import read_video
from videossp.errors import DataError

MOST = 200  # videos whose times are read: the mean of more is hardly more exact


def mean_seconds(samples: Sequence[Sample], most: int = MOST) -> float | None:
    """The mean duration of videos and parts of videos in seconds, to the millisecond.

    Args:
        samples: the training videos.
        most: if there are more, as many are chosen evenly. Videos that cannot be read do not count: the
            training reports them.

    Returns:
        None if no video has a duration: folders of frames have none.
    """
    count = min(most, len(samples))
    found = []
    for sample in (samples[i * len(samples) // count] for i in range(count)):
        with suppress(DataError):
            video = read_video(sample.path, sample.start, sample.end, frames=sample.frames)
            found += [video.seconds] if video.seconds else []
    return round(sum(found) / len(found), 3) or None if found else None
