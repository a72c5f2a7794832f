"""`class_labels`: class names as labels of a figure: short, all different, in fonts that have the letters."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from matplotlib import font_manager

from videossp.system.printable import printable
from videossp.system.quiet import quiet

FONTS_LOGGER = "matplotlib.font_manager"  # it remarks on its choice among the weights of a font
MOST_COLUMNS = 40  # a longer name is shortened; a Chinese, Japanese or Korean character takes two columns
MISSING = "#N: the class of label N, from 0;\nno installed font has all characters of its name"
NO_FONTS = ("Last Resort", "cm", "STIX")  # boxes in place of characters, and fonts of formulas


@dataclass(frozen=True)
class Labels:
    """Labels of classes.

    Attributes:
        texts: a label per class, without line breaks.
        style: arguments of matplotlib's texts that show them: the fonts, and no formulas between two $.
        columns: width of the widest label, in characters.
        note: explanation for the figure; empty if all names can be shown.
    """

    texts: tuple[str, ...]
    style: dict[str, Any]
    columns: int
    note: str


def class_labels(names: Sequence[str]) -> Labels:
    """Labels for class names of any length and script.

    Control characters are escaped. Names of more than `MOST_COLUMNS` columns lose their middle; if two then
    look alike, their numbers follow. A name with characters that no installed font has is replaced by its
    number and the rest of the name.
    """
    shown = [printable(name) for name in names]
    with quiet(FONTS_LOGGER):
        families, missing = _fonts_of(frozenset("".join(shown)))
    texts = []
    for label, name in enumerate(shown):
        name = "".join(x for x in name if not (x in missing and _invisible(x)))
        if missing & set(name):
            rest = " ".join("".join(" " if x in missing else x for x in name).split())
            name = f"#{label} {rest}".strip()
        texts.append(shorten(name))
    while len(set(texts)) < len(texts):
        counts = Counter(texts)
        for label, text in enumerate(texts):
            if counts[text] > 1:
                texts[label] = f"{shorten(text, MOST_COLUMNS - 5)} #{label}"
    lost = any(missing & {x for x in name if not _invisible(x)} for name in shown)
    return Labels(
        tuple(texts),
        {"family": families, "parse_math": False},
        max(map(columns, texts), default=0),
        MISSING if lost else "",
    )


def columns(text: str) -> int:
    """Width of a text in columns of a fixed-width font."""
    return sum(_width(x) for x in text)


def shorten(text: str, most: int = MOST_COLUMNS) -> str:
    """A text of at most `most` columns: its start and its end, where names differ most often."""
    if columns(text) <= most:
        return text
    end = _fitting(reversed(text), most // 3)[::-1]
    while end and (unicodedata.category(end[0])[0] == "M" or _invisible(end[0])):
        end = end[1:]  # an accent without its letter
    start = _fitting(text, most - 1 - columns(end))
    return f"{start.rstrip()}…{end.lstrip()}"


def _fitting(characters: Iterable[str], most: int) -> str:
    """The first characters that fit into some columns."""
    text = ""
    for x in characters:
        most -= _width(x)
        if most < 0:
            break
        text += x
    return text


def _width(x: str) -> int:
    if unicodedata.category(x) in ("Mn", "Me") or _invisible(x):
        return 0
    return 2 if unicodedata.east_asian_width(x) in "WF" else 1


def _invisible(x: str) -> bool:
    """Whether a character only changes its neighbours, as those that join emojis; it may be left out."""
    return unicodedata.category(x) == "Cf" or "\ufe00" <= x <= "\ufe0f"


def _fonts_of(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Font families that have these characters, the usual one first, and the characters that none has."""
    families = list(font_manager.FontProperties().get_family())
    missing = characters - _characters(font_manager.findfont(font_manager.FontProperties()))
    others = {font.name for font in font_manager.fontManager.ttflist if not font.name.startswith(NO_FONTS)}
    for family in sorted(others, key=lambda x: ("Sans" not in x, x)) if missing else ():
        found = font_manager.findfont(font_manager.FontProperties(family=family))
        if has := missing & _characters(found):
            families.append(family)
            missing -= has
            if not missing:
                break
    return families, missing


@cache
def _characters(path: str) -> frozenset[str]:
    """Characters that a font file can draw; none of a file that matplotlib cannot draw with."""
    try:
        font = font_manager.get_font(path)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()
