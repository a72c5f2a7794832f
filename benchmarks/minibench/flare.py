"""The art of FLARE, a role-playing game: creatures and dressed people, drawn as key frames in 8 directions.

It is read from Debian's package `flare-game`, packed or unpacked. A text file lists the drawings of a sheet:

    image=images/enemies/zombie.png
    [run]
    frame=0,1,127,285,31,54,14,51

means: key frame 0 of `run` in direction 1 is the rectangle of 31 x 54 pixels at (127, 285), and the zombie
stands on the pixel (14, 51) of it.
"""

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

MODS = ("fantasycore", "empyrean_campaign")  # if both have a file, the first one counts
NEEDED = ("animations/", "images/avatar/", "images/enemies/", "images/tilesets/", "tilesetdefs/")
DIRECTIONS = ("left", "up-left", "up", "up-right", "right", "down-right", "down", "down-left")  # on screen
TILE = (64, 32)  # pixels of a floor tile, a rhombus
FLOOR = range(16, 32)  # numbers of the plain floor tiles of any tileset
REACH = 320  # pixels from the standing point of a figure to the edges of its picture: more than a clip shows
BEHIND = {
    "main": (0, 1, 6, 7),
    "off": (2, 3, 4),
}  # directions in which the object in this hand is behind the body


class Drawing(NamedTuple):
    """A rectangle of a sheet, and the pixel in it that is on the ground."""

    left: int
    top: int
    width: int
    height: int
    ground_x: int
    ground_y: int


class Sheet(NamedTuple):
    """An image, and its drawings by action and (key frame, direction)."""

    image: str
    actions: dict[str, dict[tuple[int, int], Drawing]]


def read_sheet(text: str) -> Sheet:
    """Read FLARE's description of a sheet."""
    image, actions, drawings = "", {}, {}
    for line in text.splitlines():
        name, _, value = line.strip().partition("=")
        if name.startswith("["):
            drawings = actions.setdefault(name.strip("[]"), {})
        elif name == "image":
            image = value
        elif name == "frame":
            key, direction, *rectangle = map(int, value.split(",")[:8])
            drawings[key, direction] = Drawing(*rectangle)
    return Sheet(image, actions)


def read_files(package: Path) -> Iterator[tuple[str, str, bytes]]:
    """Mod, path in the mod and content of each needed file."""

    def locate(path: str) -> tuple[str, str] | None:
        mod, _, file = path.rpartition("/mods/")[2].partition("/")
        return (mod, file) if mod in MODS and file.startswith(NEEDED) else None

    if package.is_dir():
        for path in package.resolve().rglob("*"):
            if (location := locate(path.as_posix())) and path.is_file():
                yield *location, path.read_bytes()
        return
    command = ("dpkg-deb", "--fsys-tarfile", package)
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unpacker,
        tarfile.open(fileobj=unpacker.stdout, mode="r|") as archive,
    ):
        for member in archive:
            if (location := locate(member.name)) and member.isfile():
                yield *location, archive.extractfile(member).read()


class Flare:
    """The package in memory: 60 MB, and up to 290 MB of decoded pictures.

    Attributes:
        hash: of the needed files.
    """

    def __init__(self, package: Path | None) -> None:
        """Read the package.

        Raises:
            ValueError: the path is missing or not that package.
        """
        advice = (
            "--data takes Debian's flare-game_*.deb (`apt-get download flare-game`), "
            "or the folder that `dpkg-deb -x` unpacks it to"
        )
        if package is None:
            raise ValueError(f"this set needs the art of FLARE: {advice}")
        self.package, self.files = package, {}
        try:
            for mod, file, content in read_files(package):
                if mod == MODS[0] or file not in self.files:
                    self.files[file] = content
        except (OSError, tarfile.TarError) as error:
            raise ValueError(f"{package}: cannot be read ({error}); {advice}") from None
        if not self.files:
            raise ValueError(f"{package}: contains nothing of FLARE; {advice}")
        sums = "".join(f"{x} {hashlib.sha256(self.files[x]).hexdigest()}\n" for x in sorted(self.files))
        self.hash = hashlib.sha256(sums.encode()).hexdigest()
        self.sheets: dict[str, Sheet] = {}
        self.pictures: dict[str, Image.Image] = {}

    def read(self, file: str) -> bytes:
        """The content of a file."""
        if file not in self.files:
            raise ValueError(f"{self.package}: does not contain {file}, which flare-game 1.14 has")
        return self.files[file]

    def has(self, name: str) -> bool:
        """Whether there is a sheet of this name."""
        return f"animations/{name}.txt" in self.files

    def sheet(self, name: str) -> Sheet:
        """A sheet by name, for example `enemies/zombie`."""
        if name not in self.sheets:
            self.sheets[name] = read_sheet(self.read(f"animations/{name}.txt").decode())
        return self.sheets[name]

    def picture(self, file: str) -> Image.Image:
        """A picture with transparency."""
        if file not in self.pictures:
            self.pictures[file] = Image.open(io.BytesIO(self.read(file))).convert("RGBA")
        return self.pictures[file]

    def floor(self, tileset: str, side: int, rng: np.random.Generator) -> Image.Image:
        """A square of floor, made of tiles in random order."""
        lines = self.read(f"tilesetdefs/tileset_{tileset}.txt").decode().splitlines()
        picture = self.picture(next(x.partition("=")[2] for x in lines if x.startswith("img=")))
        rows = [[int(i) for i in x[5:].split(",")] for x in lines if x.startswith("tile=")]
        tiles = [picture.crop((x, y, x + w, y + h)) for i, x, y, w, h, *_ in rows if i in FLOOR]
        width, height = TILE
        floor = Image.new("RGBA", (side + 2 * width, side + 2 * height))
        for row in range(2 * floor.height // height - 1):  # rows interlock
            for column in range(floor.width // width - row % 2):
                corner = column * width + row % 2 * width // 2, row * height // 2
                floor.alpha_composite(tiles[rng.integers(len(tiles))], corner)
        return floor.crop((width, height, width + side, height + side))


@cache
def open_flare(package: Path | None) -> Flare:
    """The package; each process reads it once."""
    return Flare(package)


class Figure:
    """A creature or a dressed person: sheets that are drawn on top of each other."""

    def __init__(self, flare: Flare, names: dict[str, str]) -> None:
        """`names` maps each part to its sheet, the lowest first: {"feet": "avatar/male/plate_boots", ...}."""
        self.flare = flare
        self.sheets = {part: flare.sheet(name) for part, name in names.items()}

    def keys(self, action: str) -> int:
        """Number of key frames of an action."""
        return 1 + max(key for sheet in self.sheets.values() for key, _ in sheet.actions[action])

    def bounds(self, action: str, key: int, direction: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the body without held objects, relative to its standing point."""
        body = [sheet.actions[action] for part, sheet in self.sheets.items() if part not in BEHIND]
        drawings = [x[key, direction] for x in body if (key, direction) in x]
        return (
            min(-x.ground_x for x in drawings),
            min(-x.ground_y for x in drawings),
            max(x.width - x.ground_x for x in drawings),
            max(x.height - x.ground_y for x in drawings),
        )

    def draw(self, action: str, key: int, direction: int) -> Image.Image:
        """A square of 2 x REACH pixels with the standing point in its middle; premultiplied by opacity."""

        def depth(part: str) -> int:
            return 1 if part not in BEHIND else 0 if direction in BEHIND[part] else 2

        square = Image.new("RGBA", (2 * REACH, 2 * REACH))
        for part in sorted(self.sheets, key=depth):
            sheet = self.sheets[part]
            if x := sheet.actions[action].get((key, direction)):  # a missing drawing is invisible
                cut = self.flare.picture(sheet.image).crop(
                    (x.left, x.top, x.left + x.width, x.top + x.height)
                )
                square.alpha_composite(cut, (REACH - x.ground_x, REACH - x.ground_y))
        return square.convert("RGBa")
