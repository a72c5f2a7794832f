"""`warn`: warnings of this package to its users."""

import sys
import warnings

from videossp.errors import VideoSSPWarning


def warn(text: str) -> None:
    """Issue a `VideoSSPWarning` that points at the code that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == "videossp":
        level, frame = level + 1, frame.f_back
    warnings.warn(text, VideoSSPWarning, stacklevel=level)
