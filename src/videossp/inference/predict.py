"""Video files and folders -> class probabilities."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from videossp.classifier import Classifier
from videossp.data.datasets.video_index import walk
from videossp.data.video import is_video
from videossp.errors import DataError


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one video.

    Attributes:
        path: the video.
        probabilities: by class, most probable first; empty if it could not be decoded.
        error: why it could not be decoded, or None.
    """

    path: str
    probabilities: dict[str, float]
    error: str | None = None


def find_videos(paths: Sequence[str]) -> list[str]:
    """The videos among files and folders, folders searched to the bottom, in order.

    Raises:
        DataError: a path that does not exist, or a folder without videos.
    """
    found: list[str] = []
    for name in paths:
        path = Path(name)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if not path.is_dir() or is_video(path):
            found.append(str(path))  # a file that is named is tried, whatever its suffix
            continue
        inside = sorted(videos_below(path))
        if not inside:
            raise DataError(f"{path}: no videos in this folder")
        found += map(str, inside)
    return found


def videos_below(folder: Path) -> Iterator[Path]:
    """The videos in a folder as readers of data sets find them: links are followed, hidden names left out."""
    for place, folders, files in walk(str(folder)):
        inside = {x: is_video(Path(place, x)) for x in [*folders, *files]}
        folders[:] = [x for x in folders if not inside[x]]
        yield from (Path(place, name) for name, found in inside.items() if found)


def predict(
    classifier: Classifier, paths: Sequence[str], *, segments: int = 1, crops: int = 1
) -> list[Prediction]:
    """A prediction for each video of `paths`; one that cannot be decoded carries its error."""
    results = []
    for path in find_videos(paths):
        try:
            (probabilities,) = classifier.predict([path], segments=segments, crops=crops)
            results.append(Prediction(path, probabilities))
        except DataError as error:
            results.append(Prediction(path, {}, str(error)))
    return results
