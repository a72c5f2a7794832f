"""The largest frame that is decoded. Larger ones are refused before memory is allocated for them."""

import os
from pathlib import Path

from videossp.errors import DataError

MAX_PIXELS = 8192 * 4320  # 8K video passes
LIMIT_VARIABLE = "VIDEOSSP_MAX_PIXELS"  # of the environment


def max_pixels() -> int:
    """Pixels of the largest frame that is decoded: VIDEOSSP_MAX_PIXELS of the environment, else `MAX_PIXELS`.

    Raises:
        ValueError: the variable is not a positive integer.
    """
    value = os.environ.get(LIMIT_VARIABLE, str(MAX_PIXELS))
    if not value.isdecimal() or int(value) == 0:
        raise ValueError(f"{LIMIT_VARIABLE} must be a number of pixels (width x height), got {value!r}")
    return int(value)


def too_large(path: Path | str, width: int, height: int) -> DataError:
    """The error for a frame above the limit."""
    limit = f"the limit of {max_pixels()} pixels ({LIMIT_VARIABLE} in the environment raises it)"
    return DataError(f"{path}: a frame of {width}x{height} is larger than {limit}")
