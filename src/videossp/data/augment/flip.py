"""Horizontal flips: allowed unless class names contain directions that a flip would swap."""

import re
from collections.abc import Sequence
from typing import Literal

OPPOSITE = {"left": "right", "east": "west", "clockwise": "anticlockwise"}
OPPOSITE |= {second: first for first, second in OPPOSITE.items()}
# Words with a direction. "leftover", "Eastwood" and "bright" are none.
DIRECTION = re.compile(
    r"(?<![a-z])((north|south)?(left|right|east|west)(ward|wards|hand|handed|most|bound|side)?"
    r"|(anti)?clockwise)(?![a-z])"
)


def directional_classes(classes: Sequence[str]) -> str | None:
    """The classes that a horizontal flip would mix up, as "'turn left' and 'turn right'", or None.

    Two names that become each other when left and right, east and west, or clockwise and anticlockwise are
    swapped, also inside a word (swipeleft); else one name with such a word. Case, CamelCase, snake_case and
    hyphens make no difference.
    """
    names = {normalise_name(name): name for name in classes}
    for words, name in names.items():
        swapped = re.sub(r"(anti)?clockwise|left|right|east|west", lambda x: OPPOSITE[x[0]], words)
        if swapped != words and swapped in names:
            return f"{name!r} and {names[swapped]!r}"
    return next((repr(name) for words, name in names.items() if DIRECTION.search(words)), None)


def normalise_name(name: str) -> str:
    """A class name as lower-case words: turn_left, TurnLeft and Turn-Left become "turn left"; ccw and
    counterclockwise become "anticlockwise"."""
    words = re.sub(r"[\s_-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).lower()
    words = re.sub(r"\b(ccw|(anti|counter) ?clockwise)\b", "anticlockwise", words)
    return re.sub(r"\bcw\b", "clockwise", words)


def should_flip(flip: Literal["auto", "on", "off", "force"], classes: Sequence[str]) -> bool:
    """Whether training clips are flipped. auto: unless class names have a direction; force: always.

    Raises:
        ValueError: flip is on and class names have a direction.
    """
    names = directional_classes(classes)
    if flip == "on" and names:
        raise ValueError(f"flip=on would swap {names}; use flip=off, or flip=force to flip nevertheless")
    return flip in ("on", "force") or (flip == "auto" and not names)
