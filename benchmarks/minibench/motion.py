"""`motion`, modelled on HMDB51: 10 actions of people, from real motion capture.

The takes are those of capture.py; people, light and props are those of person.py. Everything except the
action is drawn independently of the class. The splits share no style of moving, no take, no hue and no camera
angle:

                                      train               val            test
    style                             active, feminine,   exhausted      elderly, youthful
                                      masculine, normal
    hue of all colours                0 to 0.55           0.6 to 0.7     0.75 to 0.95 of the colour circle
    azimuth, from the front of the    0 to 18             20 to 23       25 to 34 degrees
      body on the average, sideways
    elevation                         -22 to -12          -11 to -10     -9 to -4 degrees

A clip spans 60 to 90 frames around the middle of a take (or all of a shorter take), which are 2 to 3 s: a
raised hand moves up and down again, or stays up; a walker turns by about 80 degrees.
"""

from typing import NamedTuple

import numpy as np
from camera import Camera
from capture import ACTIONS, LICENCE, STYLES, Capture, face_front, sample, window
from clipset import Made
from note import About
from person import FACE, Stage, follow

FRAMES = 16
SPANS = (60, 90)  # range of the frames of a take that a clip shows


class Looks(NamedTuple):
    """Ranges of the looks of a split."""

    hues: tuple[float, float]
    azimuth: tuple[float, float]
    elevation: tuple[float, float]

    def camera(self, rng: np.random.Generator) -> Camera:
        """A random camera, on either side of the front."""
        return Camera(
            azimuth=FACE + rng.choice((-1, 1)) * rng.uniform(*self.azimuth),
            elevation=rng.uniform(*self.elevation),
            distance=rng.uniform(2.6, 3.1),
            look_at=(*rng.uniform(-0.05, 0.05, 2), rng.uniform(0.86, 0.93)),
        )


LOOKS = {
    "train": Looks((0, 0.55), (0, 18), (-22, -12)),
    "val": Looks((0.6, 0.7), (20, 23), (-11, -10)),
    "test": Looks((0.75, 0.95), (25, 34), (-9, -4)),
}
SPLITS = {"train": 60, "val": 40, "test": 100}
CLASSES = ACTIONS
Data = Capture
TEXT = f"""{len(CLASSES)} actions, {FRAMES} frames each, of the Bandai-Namco Research Motion Dataset 2
(arXiv 2306.08861, CC BY-NC 4.0).
The splits share no style, take, hue and camera angle: the ranges are in benchmarks/minibench/motion.py.
Neither the motions, nor these clips, nor anything trained on them is part of videossp.
Columns: `group` (the style), `take`, `take_frame` (its first frame that is shown), `span` (how many, 30 a
second), `azimuth` (180 is the front), `elevation`, `distance` of the camera."""
ABOUT = About(TEXT, ("mujoco",), LICENCE, "motions of the Bandai-Namco Research Motion Dataset")


class Maker:
    """Makes the clips of one action.

    Attributes:
        looks, styles: of the splits.
    """

    looks, styles = LOOKS, STYLES

    def __init__(self, label: str, capture: Capture) -> None:
        self.label, self.capture, self.stage = label, capture, Stage()

    def make(self, split: str, rng: np.random.Generator) -> Made:
        """A clip in the styles and looks of a split."""
        style = str(rng.choice(self.styles[split]))
        take = str(rng.choice(self.capture.takes(self.label, style)))
        joints, start, span = window(self.capture.joints(take), rng, SPANS)
        joints = face_front(sample(joints, FRAMES))
        camera = self.looks[split].camera(rng)
        frames = self.stage.film(joints, follow(joints), camera, self.looks[split].hues, rng)
        row = {"group": style, "take": take, "take_frame": start, "span": span}
        return Made(frames, {**row, **camera.row()})

    def close(self) -> None:
        """Free the renderer."""
        self.stage.close()
