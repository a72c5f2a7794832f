"""Versions of the libraries that numbers depend on."""

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Versions that numbers depend on."""
    names = ("videossp", "torch", "numba", "numpy", "av")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
