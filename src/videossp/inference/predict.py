"""Class probabilities of video files and folders."""

import glob
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from videossp.data.datasets.left_out import doubtful, not_videos, pictures_in
from videossp.data.datasets.video_index import videos_below
from videossp.data.video import is_video
from videossp.data.video.remote import check_scheme, local_copy, scheme_of
from videossp.errors import DataError
from videossp.inference.decode_ahead import Fetch, Reading
from videossp.inference.passes import bytes_of_view, finite, scoring
from videossp.inference.video_results import OnError, check_on_error, video_results
from videossp.system.warn import warn

if TYPE_CHECKING:
    from videossp.classifier import Classifier

MOST_VIEWS = 16  # in a forward pass on a CPU; larger batches are hardly faster
MEMORY = 1e9  # bytes that a forward pass may take on a CPU
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
    batch_size: int | None = None,
    workers: int = 0,
    timeout: float | None = None,
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
        batch_size, workers, timeout: see `predict_each`.

    Returns:
        A prediction for each video, in the order of the paths.

    Raises:
        DataError: a path does not exist, a folder has no videos, or (on_error "error") a video cannot be
            decoded.
        FloatingPointError: probabilities are not finite.
        OutOfMemoryError: the memory of a GPU is too small for one view.
    """
    results = predict_each(
        [classifier],
        find_videos(paths),
        segments=segments,
        crops=crops,
        on_error=on_error,
        batch_size=batch_size,
        workers=workers,
        timeout=timeout,
    )
    return [x for (x,) in results]


def predict_each(
    classifiers: "Sequence[Classifier]",
    videos: Iterable[str],
    *,
    segments: int | None = None,
    crops: int | None = None,
    on_error: OnError = "error",
    batch_size: int | None = None,
    workers: int = 0,
    timeout: float | None = None,
    fetch: Fetch = local_copy,
) -> Generator[list[Prediction], None, None]:
    """The predictions of `predict` one by one, in the order of the videos.

    The views of several videos are computed together, and each video is decoded once for all classifiers.
    With several classifiers, blocks of the frozen backbone that none of them changes are computed once. To
    stop early, close the iterator.

    Args:
        classifiers: of one device and clip format.
        videos: of `find_videos`, or names that `fetch` knows; they are taken only as far ahead as is needed.
        segments, crops, on_error: see `predict`.
        batch_size: views in a forward pass. Default: 16 or, of a large model, as many as 1 GB holds; on a
            GPU as many as fit into its memory. Another batch size changes probabilities by rounding errors.
        workers: processes that decode ahead; 0 decodes in this one. A script that uses them needs
            `if __name__ == "__main__":`.
        timeout: seconds that a worker may take for a video; None: no limit.
        fetch: see `Reading`.

    Yields:
        For each video, a prediction of each classifier.

    Raises:
        ValueError: no classifiers, or they have different devices or clip formats.
    """
    check_on_error(on_error)
    if not classifiers:
        raise ValueError("at least one classifier is needed")
    first = classifiers[0]
    views = common_views(classifiers, segments, crops)
    reading = Reading(first.clip_format, *views, fetch=fetch)
    passes = scoring(classifiers, usual_batch(classifiers, batch_size))
    with closing(
        video_results(passes, videos, reading, on_error=on_error, workers=workers, timeout=timeout)
    ) as results:
        for video, probabilities, reason in results:
            if probabilities is None:
                yield [Prediction(video, {}, reason) for _ in classifiers]
            else:
                yield _predictions(video, classifiers, finite(probabilities).mean(0))


def usual_batch(classifiers: "Sequence[Classifier]", batch_size: int | None) -> int | None:
    """The views in a pass: those given, else on a CPU as many as `MEMORY` holds; None: as `Passes` chooses.

    They follow from the sizes of the model alone, so that they are the same on every machine.
    """
    mixes = any(x.tuner.mixes_clips for x in classifiers)
    if batch_size is None and classifiers[0].device.type == "cpu" and not mixes:
        return max(1, min(MOST_VIEWS, int(MEMORY / bytes_of_view(classifiers[0].backbone.config))))
    return batch_size


def _predictions(video: str, classifiers: "Sequence[Classifier]", scores: Tensor) -> list[Prediction]:
    """The prediction of each classifier, of their probabilities next to each other."""
    found = []
    for classifier, own in zip(classifiers, scores.split([len(x.classes) for x in classifiers]), strict=True):
        ranked = own.sort(descending=True, stable=True)
        names = (classifier.classes[i] for i in ranked.indices.tolist())
        found.append(Prediction(video, dict(zip(names, ranked.values.tolist(), strict=True))))
    return found


def common_views(
    classifiers: "Sequence[Classifier]", segments: int | None = None, crops: int | None = None
) -> tuple[int, int]:
    """(segments, crops) of a video: those given, else those of the classifiers.

    Raises:
        ValueError: the classifiers read different clips of a video, or compute on different devices.
    """
    views = []
    for x in classifiers:
        default = x.clip_format.views
        views.append((default[0] if segments is None else segments, default[1] if crops is None else crops))
    first = classifiers[0]
    for x, own in zip(classifiers, views, strict=True):
        mine, other = (replace(y.clip_format, views=(1, 1)) for y in (x, first))
        if mine != other:
            raise ValueError(
                f"the adapters read different clips ({other} and {mine}); predict with each of them alone"
            )
        if own != views[0]:
            raise ValueError(
                f"the adapters take {views[0][0]} x {views[0][1]} and {own[0]} x {own[1]} views of a video: "
                "give segments and crops"
            )
        if x.device != first.device:
            raise ValueError(f"the classifiers are on {first.device} and {x.device}; move them to one")
    return views[0]


def find_videos(paths: Paths, report: Callable[[str], None] | None = None) -> list[str]:
    """The videos among files and folders, in order; folders are searched to the bottom.

    A path that does not exist, and has *, ? or [, is a pattern of `glob`, whose ** is any folders. A URI, as
    s3://bucket/a.mp4, names one video.

    Args:
        report: called with a line for each sort of files in the folders that are no videos; None: a
            `VideoSSPWarning` for those that may be videos, which annotations and pictures are not.

    Raises:
        DataError: a path does not exist, or a folder has no videos.
        ValueError: the library for a URI is not installed.
    """
    videos: list[str] = []
    others: list[str] = []
    listed = [paths] if isinstance(paths, str | bytes | os.PathLike) else paths
    expanded = [x for path in map(os.fsdecode, listed) for x in matches(path) or [path]]
    schemes: set[str] = set()
    for name in expanded:
        path = Path(name)
        if scheme := scheme_of(name):
            if scheme not in schemes:
                check_scheme(scheme)
            schemes.add(scheme)
            videos.append(name)
            continue
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


def matches(pattern: str) -> list[str]:
    """The files and folders that a pattern finds, sorted; none if it is no pattern, or is a path itself."""
    if not glob.has_magic(pattern) or os.path.lexists(pattern):
        return []
    found = sorted(glob.glob(pattern, recursive=True))
    # `find_videos` searches a folder that is found. Its files must not be listed a second time.
    folders = {x.rstrip(os.sep) for x in found if os.path.isdir(x)}
    return [x for x in found if folders.isdisjoint(map(str, Path(x).parents))]
