"""`fresh_motion`: `motion` with other styles, takes, hues and camera angles in every split.

The styles of the test were styles for training in `motion`: no test or validation has seen their takes.

                                      train               val            test
    style                             active, elderly,    masculine      feminine, normal
                                      exhausted, youthful
    hue of all colours                0.45 to 1           0.05 to 0.15   0.2 to 0.4 of the colour circle
    azimuth, from the front of the    16 to 34            11 to 14       0 to 9 degrees
      body on the average, sideways
    elevation                         -14 to -4           -16 to -15     -24 to -17 degrees
"""

import motion
from capture import LICENCE
from motion import CLASSES, SPLITS, Data, Looks
from note import About

__all__ = ["ABOUT", "CLASSES", "LOOKS", "SPLITS", "STYLES", "Data", "Maker"]

STYLES = {
    "train": ("active", "elderly", "exhausted", "youthful"),
    "val": ("masculine",),
    "test": ("feminine", "normal"),
}
LOOKS = {
    "train": Looks((0.45, 1.0), (16, 34), (-14, -4)),
    "val": Looks((0.05, 0.15), (11, 14), (-16, -15)),
    "test": Looks((0.2, 0.4), (0, 9), (-24, -17)),
}
TEXT = motion.TEXT.replace("minibench/motion.py", "minibench/fresh_motion.py")
ABOUT = About(TEXT, ("mujoco",), LICENCE, "motions of the Bandai-Namco Research Motion Dataset")


class Maker(motion.Maker):
    """Makes the clips of one action."""

    looks, styles = LOOKS, STYLES
