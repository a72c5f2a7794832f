"""What lies beside the clips of a set: a README that says how they were made, and a licence."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from videossp.system.files import atomic_write


class About(NamedTuple):
    """What there is to say of a set.

    Attributes:
        text: what it is, its columns.
        packages: what made the pictures.
        licence: of what the pictures show, in full.
        shown: whose work that is; empty for models and textures of the first package.
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
