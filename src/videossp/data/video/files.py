"""Which paths are videos, by their names: a file with a suffix of a video, or a folder of images."""

import re
from pathlib import Path

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".gif")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def is_video(path: Path) -> bool:
    """Whether a path is, by its name, a video file or a folder of frames."""
    if path.is_dir():
        # A folder that also holds videos or folders is a class with a stray picture, not a video.
        others = (x for x in path.iterdir() if x.is_dir() or x.suffix.lower() in VIDEO_SUFFIXES)
        return bool(images_of(path)) and not any(others)
    return path.suffix.lower() in VIDEO_SUFFIXES


def images_of(folder: Path) -> list[Path]:
    """The frames of a folder, sorted by the numbers in their names."""

    def order(path: Path) -> tuple[list[int], str]:
        return [int(x) for x in re.findall(r"\d+", path.name)], path.name

    files = [x for x in folder.iterdir() if x.suffix.lower() in IMAGE_SUFFIXES and not x.name.startswith(".")]
    return sorted(files, key=order)
