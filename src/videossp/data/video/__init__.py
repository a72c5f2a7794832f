"""Decoding: from a video file or a folder of frames to pixels, or to an error that names the file."""

from videossp.data.video.decode import Frames, read_frames
from videossp.data.video.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_video
from videossp.data.video.index import Video, read_video
from videossp.data.video.limits import max_pixels

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Frames",
    "Video",
    "is_video",
    "max_pixels",
    "read_frames",
    "read_video",
]
