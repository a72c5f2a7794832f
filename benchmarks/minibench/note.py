"""The README and the licence in the folder of a set."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from videossp.system.files import atomic_write


class About(NamedTuple):
    """Description of a set for its README.

    Attributes:
        text: content and columns of the set.
        packages: packages that made the pictures.
        licence: full licence of the work that the pictures show.
        shown: name of that work; empty: models and textures of the first package.
    """

    text: str
    packages: tuple[str, ...]
    licence: str
    shown: str = ""


def write_note(folder: Path, name: str, about: About, command: Sequence[str]) -> None:
    """Write README.md and LICENSE.txt."""
    versions = ", ".join(f"{x} {version(x)}" for x in (*about.packages, "numpy", "av"))
    shown = about.shown or f"models and textures of {about.packages[0]}"
    text = f"""# {name}

{about.text}

Made by `{" ".join(command)}` of videossp with {versions}.
The pictures show the {shown}, whose licence is in LICENSE.txt.
"""
    atomic_write(folder / "README.md", text)
    atomic_write(folder / "LICENSE.txt", about.licence)
