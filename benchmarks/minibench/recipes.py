"""`recipes`, modelled on Breakfast: 8 orders of the same four sub-activities, 32 frames.

Every clip contains the same four sub-activities, complete, by one person at one position, joined by the same
pose. The class is only their order: the frames of a clip, in another order, are a clip of another class. So a
bag of frames is at chance, however well it recognises each frame.

An order has one of PAIRS in the middle and the other around it, in all eight ways. So each sub-activity is
equally often at each position and follows each other one equally often. The last one adds no information to
the first (a choice of 1 in 2 remains), and the orders differ even for a model that confuses raising and
waving.

Styles, looks and camera of the splits are those of `motion`.
"""

import itertools

import numpy as np
from capture import LICENCE, STYLES, Capture, face_front, sample
from clipset import Made
from motion import LOOKS
from note import About
from person import Stage

FRAMES = 32
PARTS = {  # name in the class -> sub-activity
    "left": "raise-up-left-hand",
    "both": "raise-up-both-hands",
    "right": "raise-up-right-hand",
    "wave": "wave-both-hands",
}
PAIRS = (("left", "both"), ("right", "wave"))
BLEND = 6  # frames of a take, at 30 a second, that are blended with the pose at each end
SPLITS = {"train": 60, "val": 20, "test": 80}


def orders(pairs: tuple[tuple[str, str], tuple[str, str]]) -> tuple[str, ...]:
    """The names of the eight orders."""
    return tuple(
        "-".join((first, *middle, last))
        for around, between in (pairs, pairs[::-1])
        for first, last in itertools.permutations(around)
        for middle in itertools.permutations(between)
    )


CLASSES = orders(PAIRS)
Data = Capture
TEXT = f"""{len(CLASSES)} orders of the same four sub-activities of the Bandai-Namco Research Motion Dataset 2
(arXiv 2306.08861, CC BY-NC 4.0), {FRAMES} frames: {", ".join(f"{k} is {v}" for k, v in PARTS.items())}.
The splits share no style, take, hue and camera angle: the ranges are in benchmarks/minibench/motion.py.
Neither the motions, nor these clips, nor anything trained on them is part of videossp.
Columns: `group` (the style), `takes` and `counts` (frames of each) in the order of the clip, `azimuth` (180
is the front), `elevation`, `distance` of the camera."""
ABOUT = About(TEXT, ("mujoco",), LICENCE, "motions of the Bandai-Namco Research Motion Dataset")


class Maker:
    """Makes the clips of one order.

    Attributes:
        parts: action of the data by name of the sub-activity.
        looks, styles: of the splits.
    """

    parts, looks, styles = PARTS, LOOKS, STYLES

    def __init__(self, label: str, capture: Capture) -> None:
        self.order = label.split("-")
        self.capture, self.stage = capture, Stage()

    def make(self, split: str, rng: np.random.Generator) -> Made:
        """A clip in the styles and looks of a split. The order is applied after all random draws."""
        style = str(rng.choice(self.styles[split]))
        takes = {x: str(rng.choice(self.capture.takes(action, style))) for x, action in self.parts.items()}
        motions = {x: self.motion(take, rng) for x, take in takes.items()}
        rest = motions[str(rng.choice(list(self.parts)))][0]
        more, others = rng.integers(-2, 3, 2)
        counts = dict(
            zip(self.parts, rng.permutation(8 + np.array((more, -more, others, -others))), strict=True)
        )
        parts = {x: sample(from_and_to(rest, motions[x]), counts[x]) for x in self.parts}
        camera = self.looks[split].camera(rng)
        joints = np.concatenate([parts[x] for x in self.order])
        frames = self.stage.film(joints, np.zeros((FRAMES, 2)), camera, self.looks[split].hues, rng)
        row = {"group": style, "takes": " ".join(takes[x] for x in self.order)}
        row["counts"] = " ".join(str(counts[x]) for x in self.order)
        return Made(frames, {**row, **camera.row()})

    def motion(self, take: str, rng: np.random.Generator) -> np.ndarray:
        """The motion of a take, without its ends, facing the camera."""
        return face_front(trim(self.capture.joints(take), rng))

    def close(self) -> None:
        """Free the renderer."""
        self.stage.close()


def trim(joints: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Remove up to a twentieth at each end."""
    first, last = (rng.uniform(0, 0.05, 2) * len(joints)).astype(int)
    return joints[first : len(joints) - last]


def from_and_to(rest: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Blend a motion with a pose at both ends."""
    steps = np.arange(len(joints)) + 0.5
    weight = np.clip(np.minimum(steps, steps[::-1]) / BLEND, 0, 1)[:, None, None]
    return weight * joints + (1 - weight) * rest
