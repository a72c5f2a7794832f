"""Class probabilities of video files and folders."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from videossp.data.clips import read_views
from videossp.data.datasets.left_out import doubtful, not_videos, pictures_in
from videossp.data.datasets.video_index import videos_below
from videossp.data.video import is_video
from videossp.errors import DataError
from videossp.inference.passes import finite, scoring
from videossp.system.warn import warn

if TYPE_CHECKING:
    from videossp.classifier import Classifier

OnError = Literal["error", "skip"]
Paths = str | bytes | os.PathLike[str] | Sequence[str | bytes | os.PathLike[str]]


@dataclass(frozen=True)
class Prediction:
    """The prediction for one video.

    Attributes:
        path: the video.
        probabilities: probability of each class, most probable first; empty if the video cannot be decoded.
        error: why the video cannot be decoded, or None.
    """

    path: str
    probabilities: dict[str, float]
    error: str | None = None

    @property
    def label(self) -> str | None:
        """The most probable class; None if the video cannot be decoded."""
        return next(iter(self.probabilities), None)

    @property
    def probability(self) -> float | None:
        """The probability of `label`; None if the video cannot be decoded."""
        return next(iter(self.probabilities.values()), None)


def predict(
    classifier: "Classifier",
    paths: Paths,
    *,
    segments: int | None = None,
    crops: int | None = None,
    on_error: OnError = "error",
) -> list[Prediction]:
    """Predict the class of videos; the same as `Classifier.predict`.

    Args:
        classifier: computes on its device and in its precision, which for a loaded adapter is that of its
            training.
        paths: one path or several, of videos and of folders, which are searched for videos to the bottom.
        segments, crops: views per video, whose probabilities are averaged; default: `ClipFormat.views` of the
            classifier.
        on_error: "error" stops at the first video that cannot be decoded; "skip" gives it a `Prediction`
            without probabilities, whose `error` is the reason.

    Returns:
        A prediction for each video, in the order of the paths.

    Raises:
        DataError: a path does not exist, a folder has no videos, or (on_error "error") a video cannot be
            decoded.
        FloatingPointError: probabilities are not finite.
        OutOfMemoryError: the memory of a GPU is too small for one view.
    """
    check_on_error(on_error)
    return list(predict_each(classifier, find_videos(paths), segments, crops, on_error))


def predict_each(
    classifier: "Classifier",
    videos: Sequence[str],
    segments: int | None = None,
    crops: int | None = None,
    on_error: OnError = "error",
) -> Iterator[Prediction]:
    """The predictions of `predict` one by one, each computed when it is asked for.

    Args:
        classifier, segments, crops, on_error: see `predict`.
        videos: of `find_videos`.
    """
    views = classifier.clip_format.views
    segments, crops = views[0] if segments is None else segments, views[1] if crops is None else crops
    passes = scoring(classifier)
    for path in videos:
        raw = classifier.device.type != "cpu"
        try:
            clips = read_views(path, classifier.clip_format, segments, crops, raw=raw)
        except DataError as error:
            if on_error == "error":
                raise
            yield Prediction(path, {}, str(error))
            continue
        scores = finite(passes(clips).cpu()).mean(0)
        order = scores.argsort(descending=True, stable=True)
        yield Prediction(path, {classifier.classes[i]: scores[i].item() for i in order})


def check_on_error(on_error: str) -> None:
    """Raise a ValueError if `on_error` is not one of `OnError`."""
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error is {' or '.join(get_args(OnError))}, got {on_error!r}")


def find_videos(paths: Paths, report: Callable[[str], None] | None = None) -> list[str]:
    """The videos among files and folders, in order; folders are searched to the bottom.

    Args:
        report: called with a line for each sort of files in the folders that are no videos; None: a
            `VideoSSPWarning` for those that may be videos, which annotations and pictures are not.

    Raises:
        DataError: a path does not exist, or a folder has no videos.
    """
    videos: list[str] = []
    others: list[str] = []
    listed = [paths] if isinstance(paths, str | bytes | os.PathLike) else paths
    for path in map(Path, map(os.fsdecode, listed)):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if not path.is_dir() or is_video(path):
            videos.append(str(path))  # a named file is tried, whatever its suffix
            continue
        inside, not_inside = videos_below(str(path))
        if not inside:
            raise DataError(f"{path}: no videos in this folder")
        videos += inside
        others += not_inside
    others += [os.path.join(x, name) for x in videos if os.path.isdir(x) for name in pictures_in(x)]
    for sort in not_videos(others if report else doubtful(others)):
        (report or warn)(f"left out: {sort.line}")
    return videos
