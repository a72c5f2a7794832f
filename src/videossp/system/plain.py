"""`plain`: settings with Python's numbers in place of NumPy's, so that they can be saved as JSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """The value with Python's numbers for NumPy's, and tuples for lists.

    So settings that a program computed can be saved, and compare equal to those that were read from JSON.
    """
    if isinstance(value, Mapping):
        return {name: plain(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value.item() if isinstance(value, np.generic) else value
