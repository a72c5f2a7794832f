"""Reading a video that a stranger sent: runs in a worker process, within limits."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videossp.data.sampling import ClipFormat, eval_indices
from videossp.data.video import Video, read_video
from videossp.data.video.container import as_data_error, open_stream
from videossp.data.video.limits import LIMIT_VARIABLE
from videossp.errors import DataError, TruncatedError

if TYPE_CHECKING:
    import numpy as np

# Demuxers of containers that users upload. Other formats are refused, whatever the name of the file.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,asf,flv,ogg,gif"
SHOWN = "MP4, MOV, WebM, Matroska, AVI, MPEG-TS, MPEG-PS, WMV, FLV, Ogg or GIF"
MOST_RATE = 240  # frames per second; a video of more frames than these takes too long as well
MEMORY = 4 * 2**30  # bytes that a worker may take besides those it has at its first video


@dataclass(frozen=True)
class Refused:
    """Why a video is not read.

    Attributes:
        status: of HTTP: 413 too large, 415 another format, 422 damaged.
        reason: one line, without the path of the file.
    """

    status: int
    reason: str


@dataclass(frozen=True)
class ReadClips:
    """The views of a video.

    Attributes:
        views: (views, 3, frames, height, width) uint8.
        times: seconds of the frames of the first view; None if they are not known.
    """

    views: "np.ndarray"
    times: tuple[float, ...] | None


@dataclass(frozen=True)
class Reader:
    """Reads the views of an uploaded file; picklable.

    Attributes:
        clip_format: frames and size of a clip.
        segments, crops: views of a video.
        max_pixels, max_seconds: limits of the video.
    """

    clip_format: ClipFormat
    segments: int
    crops: int
    max_pixels: int
    max_seconds: float

    def __call__(self, path: str) -> ReadClips | Refused:
        import torch

        from videossp.data.clips import read_views

        torch.set_num_threads(1)
        try:
            video = checked(path, self.max_pixels, self.max_seconds)
            if isinstance(video, Refused):
                return video
            views = read_views(video, self.clip_format, self.segments, self.crops, raw=True).numpy()
        except DataError as error:
            return Refused(422, without_path(error, path))
        times = [video.time_of(i) for i in eval_indices(len(video), self.clip_format)]
        known = tuple(x for x in times if x is not None)
        return ReadClips(views, known if len(known) == len(times) else None)


def refused_container(path: str, max_pixels: int) -> Refused | None:
    """Why the container of an uploaded file, or the size of its frames, is not allowed; None: they are.

    Raises:
        DataError: it is damaged.
    """
    limit_memory()
    os.environ[LIMIT_VARIABLE] = str(max_pixels)
    file = Path(path)
    try:
        with as_data_error(file, "not a readable video"), open_stream(file, formats=CONTAINERS):
            return None
    except TruncatedError:
        raise
    except DataError as error:
        if "is larger than the limit" in str(error):
            return Refused(413, without_path(error, path).partition(" (")[0])  # no advice for the operator
        return Refused(415, f"{without_path(error, path)}; send {SHOWN}")


@dataclass(frozen=True)
class ContainerCheck:
    """Checks the container of an uploaded file; picklable.

    Attributes:
        max_pixels: limit of a frame.
    """

    max_pixels: int

    def __call__(self, path: str) -> Refused | None:
        try:
            return refused_container(path, self.max_pixels)
        except DataError as error:
            return Refused(422, without_path(error, path))


def checked(path: str, max_pixels: int, max_seconds: float) -> Video | Refused:
    """An uploaded video whose container and duration are allowed.

    Raises:
        DataError: it is damaged, or has larger frames.
    """
    if refused := refused_container(path, max_pixels):
        return refused
    video = read_video(path)
    seconds = video.seconds
    if (seconds is not None and seconds > max_seconds) or len(video) > MOST_RATE * max_seconds:
        length = f"{len(video)} frames" if seconds is None else f"{seconds:.0f} s, {len(video)} frames"
        return Refused(
            413,
            f"the video is too long ({length}): at most {max_seconds:g} s and {MOST_RATE} frames per second",
        )
    return video


def without_path(error: Exception | str, path: str) -> str:
    """The message of an error, which begins with the path of the file, without that."""
    return str(error).removeprefix(f"{path}: ").replace(path, "the video")


def limit_memory() -> None:
    """Let this process take a limited amount of memory, once; more is an error of the video."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows; or a lower limit of the system
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
