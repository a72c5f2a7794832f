"""Video file or folder of frames -> frames; what cannot be decoded is an error that names the file."""

from videossp.data.video.container import max_pixels
from videossp.data.video.decode import Frames, read_frames
from videossp.data.video.index import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Video, is_video, read_video

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
