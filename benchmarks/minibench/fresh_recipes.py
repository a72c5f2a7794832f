"""`fresh_recipes`: `recipes` with another four sub-activities; styles and looks are those of `fresh_motion`.

The person waves the left or the right hand, walks and runs in place: the hips stay above one point.
"""

import numpy as np
import recipes
from capture import JOINTS, LICENCE
from fresh_motion import LOOKS, STYLES
from note import About
from recipes import FRAMES, SPLITS, Data, orders

__all__ = ["ABOUT", "CLASSES", "SPLITS", "Data", "Maker"]

PARTS = {  # name in the class -> sub-activity
    "left": "wave-left-hand",
    "run": "run",
    "right": "wave-right-hand",
    "walk": "walk",
}
CLASSES = orders((("left", "run"), ("right", "walk")))
TEXT = f"""{len(CLASSES)} orders of the same four sub-activities of the Bandai-Namco Research Motion Dataset 2
(arXiv 2306.08861, CC BY-NC 4.0), {FRAMES} frames: {", ".join(f"{k} is {v}" for k, v in PARTS.items())}.
The person runs and walks in place.
The splits share no style, take, hue and camera angle: the ranges are in benchmarks/minibench/fresh_motion.py.
Neither the motions, nor these clips, nor anything trained on them is part of videossp.
Columns: `group` (the style), `takes` and `counts` (frames of each) in the order of the clip, `azimuth` (180
is the front), `elevation`, `distance` of the camera."""
ABOUT = About(TEXT, ("mujoco",), LICENCE, "motions of the Bandai-Namco Research Motion Dataset")


class Maker(recipes.Maker):
    """Makes the clips of one order."""

    parts, looks, styles = PARTS, LOOKS, STYLES

    def motion(self, take: str, rng: np.random.Generator) -> np.ndarray:
        joints = super().motion(take, rng)
        return joints - joints[:, [JOINTS.index("Hips")]] * (1, 1, 0)
