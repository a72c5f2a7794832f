"""Which paths are videos, by their names: a file with a suffix of a video, or a folder of images."""

import os
from pathlib import Path

from videossp.data.video.frame_names import FrameNames, frame_names

# Suffixes that users give to videos and FFmpeg reads. Left out are those that mean other things as well, such
# as .ogg (mostly sound) and .dat, and animated .webp, which FFmpeg cannot decode.
# fmt: off
VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".gif", ".qt", ".3gp", ".3gpp",
    ".3g2", ".flv", ".f4v", ".wmv", ".asf", ".ogv", ".ogm", ".mk3d", ".mj2", ".insv", ".lrv", ".ts", ".mts",
    ".m2ts", ".m2t", ".tp", ".trp", ".vob", ".mpe", ".mpv", ".m1v", ".m2v", ".mxf", ".gxf", ".wtv", ".divx",
    ".xvid", ".rm", ".rmvb", ".amv", ".dv", ".nut", ".y4m", ".ivf", ".obu", ".apng", ".mjpeg", ".mjpg",
    ".h264", ".264", ".avc", ".h265", ".265", ".hevc",
)
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm",
    ".tga", ".jp2",
)
# Made by operating systems, archives and servers; in lower case. Names with a dot in front are hidden, too.
SYSTEM = {
    "lost+found", "__macosx", "@eadir", "@recycle", "@__thumb", "#recycle", "#snapshot", "$recycle.bin",
    "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
}
# fmt: on
SOURCE_SUFFIXES = (".ts", ".mts")  # also those of TypeScript


def visible(name: str) -> bool:
    """Whether a file or folder of this name may be data."""
    return not name.startswith(".") and name.lower() not in SYSTEM


def is_video(path: Path) -> bool:
    """Whether a path is a folder of frames or, by its name, a video file."""
    return is_frame_folder(path) if path.is_dir() else is_video_file(path)


def is_frame_folder(folder: Path) -> bool:
    """Whether a folder has images, and neither videos nor folders: these make it a class with pictures."""
    with os.scandir(folder) as entries:
        inside = [x for x in entries if visible(x.name)]
    videos = any(x.name.lower().endswith(VIDEO_SUFFIXES) or x.is_dir() for x in inside)
    return not videos and any(is_image(x.name) for x in inside)


def is_video_file(path: Path) -> bool:
    """Whether a file has the suffix of a video; .ts and .mts are none if they hold lines of text."""
    name = path.name.lower()
    return name.endswith(VIDEO_SUFFIXES) and not (name.endswith(SOURCE_SUFFIXES) and is_text(path))


def is_text(path: Path) -> bool:
    """Whether a file starts with lines of printable text."""
    try:
        with path.open("rb") as file:
            lines = file.read(188).split(b"\n")  # a packet of a transport stream, which has bytes below 32
    except OSError:
        return False  # the reader of the video will say why
    return len(lines) > 1 and all(x >= 32 or x in b"\t\r" for line in lines for x in line)


def is_image(name: str) -> bool:
    """Whether a file of this name may be a frame."""
    return name.lower().endswith(IMAGE_SUFFIXES) and visible(name)


def images_of(folder: Path, count: int | None = None) -> list[Path]:
    """The frames of a folder in their order; [] if it has no images.

    Args:
        count: number of frames that an annotation promises; it decides between several sorts of names.

    Raises:
        DataError: the names do not say which images are the frames, or their order; see `frame_names`.
    """
    return [folder / x for x in names_in(folder, count).frames]


def names_in(folder: Path, count: int | None = None) -> FrameNames:
    """The names of the images of a folder, divided into frames and others; see `images_of`."""
    return frame_names(folder, [x for x in os.listdir(folder) if is_image(x)], count)
