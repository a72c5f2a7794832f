"""Versions of the libraries that numerical results depend on."""

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that change numerical results."""
    names = ("videossp", "torch", "numba", "numpy", "av")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
