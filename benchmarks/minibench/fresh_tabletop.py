"""`fresh_tabletop`: `tabletop` with other episodes, hues and camera angles in every split.

The sets named `fresh_...` were first generated after the methods were frozen (docs/benchmark-notes.md).

                            train        val           test
    hue of all tints        0.45 to 1    0.05 to 0.15  0.2 to 0.4 of the colour circle
    azimuth, from the       -4 to 14     -8 to -6      -16 to -10 degrees
      pair's own, sideways
    elevation               -38 to -28   -40 to -39    -46 to -41 degrees
"""

import tabletop
from note import About
from robot import LICENCE, PACKAGES
from tabletop import CLASSES, SPLITS, Looks

__all__ = ["ABOUT", "CLASSES", "LOOKS", "SPLITS", "Maker"]

LOOKS = {
    "train": Looks((0.45, 1.0), (-4, 14), (-38, -28)),
    "val": Looks((0.05, 0.15), (-8, -6), (-40, -39)),
    "test": Looks((0.2, 0.4), (-16, -10), (-46, -41)),
}
ABOUT = About(
    tabletop.TEXT.replace("minibench/tabletop.py", "minibench/fresh_tabletop.py"), PACKAGES, LICENCE
)


class Maker(tabletop.Maker):
    """Makes the clips of one class."""

    looks = LOOKS
