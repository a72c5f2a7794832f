"""Class probabilities of video files and folders."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from videossp.data.clips import read_views
from videossp.data.datasets.video_index import walk
from videossp.data.video import is_video
from videossp.errors import DataError

if TYPE_CHECKING:
    from videossp.classifier import Classifier

OnError = Literal["error", "skip"]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


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
        classifier: computes in its precision, which for a loaded adapter is that of its training.
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
    for path in videos:
        try:
            clips = read_views(path, classifier.clip_format, segments, crops)
        except DataError as error:
            if on_error == "error":
                raise
            yield Prediction(path, {}, str(error))
            continue
        scores = classifier.probabilities(clips).mean(0)
        order = scores.argsort(descending=True, stable=True)
        yield Prediction(path, {classifier.classes[i]: scores[i].item() for i in order})


def check_on_error(on_error: str) -> None:
    """Raise a ValueError if `on_error` is not one of `OnError`."""
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error is {' or '.join(get_args(OnError))}, got {on_error!r}")


def find_videos(paths: Paths) -> list[str]:
    """The videos among files and folders, in order; folders are searched to the bottom.

    Raises:
        DataError: a path does not exist, or a folder has no videos.
    """
    videos: list[str] = []
    for path in [Path(paths)] if isinstance(paths, str | os.PathLike) else map(Path, paths):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if not path.is_dir() or is_video(path):
            videos.append(str(path))  # a named file is tried, whatever its suffix
            continue
        inside = sorted(_videos_below(path))
        if not inside:
            raise DataError(f"{path}: no videos in this folder")
        videos += map(str, inside)
    return videos


def _videos_below(folder: Path) -> Iterator[Path]:
    """The videos in a folder, by the rules of the readers: links are followed, hidden names skipped."""
    for parent, folders, files in walk(str(folder)):
        inside = {x: is_video(Path(parent, x)) for x in [*folders, *files]}
        folders[:] = [x for x in folders if not inside[x]]  # a folder of frames is one video
        yield from (Path(parent, name) for name, video in inside.items() if video)
