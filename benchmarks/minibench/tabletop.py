"""`tabletop`, modelled on Something-Something V2: 13 pairs of opposite actions, 26 classes, from Meta-World.

Both actions of a pair have the same camera positions and looks. Objects lose their textures and colours and
get random colours in every clip, because some differ between the two actions (the peg, the puck). The splits
share no episode, no hue and no camera angle:

                            train        val           test
    hue of all tints        0 to 0.55    0.6 to 0.7    0.75 to 0.95 of the colour circle
    azimuth, from the       -14 to 4     6 to 8        10 to 16 degrees
      pair's own, sideways
    elevation               -42 to -32   -31 to -30    -29 to -24 degrees

The first frame contains much information, as in Something-Something V2: a drawer that will be closed is open.
"""

from typing import NamedTuple

import numpy as np
from clipset import Made
from note import About
from robot import FACE, FRAMES, LICENCE, PACKAGES, Camera, Look, Robot


class View(NamedTuple):
    """Good views of a pair: azimuths in degrees, the point that the camera looks at, its distance."""

    azimuths: tuple[float, ...]
    look_at: tuple[float, float, float]
    distance: float


PAIRS = {
    ("drawer-open", "drawer-close"): View((200, 340), (0, 0.66, 0.12), 0.8),
    ("door-open", "door-close"): View((190, 330), (-0.05, 0.62, 0.15), 1.05),
    ("window-open", "window-close"): View((220, 320), (0.05, 0.66, 0.16), 0.85),
    ("faucet-open", "faucet-close"): View((215, 325), (0, 0.72, 0.12), 0.8),
    ("door-lock", "door-unlock"): View((175, 365), (0.03, 0.62, 0.17), 0.75),
    ("plate-slide", "plate-slide-back"): View((200, 340), (0, 0.72, 0.08), 0.8),
    ("plate-slide-side", "plate-slide-back-side"): View((225,), (-0.07, 0.62, 0.08), 0.8),
    ("handle-press", "handle-pull"): View((205, 335), (0, 0.62, 0.1), 0.7),
    ("coffee-push", "coffee-pull"): View((190, 350), (0, 0.64, 0.1), 0.8),
    ("push", "push-back"): View((215, 325), (0, 0.73, 0.1), 0.7),
    ("stick-push", "stick-pull"): View((330,), (0.12, 0.56, 0.1), 0.85),
    ("assembly", "disassemble"): View((215, 325), (0.1, 0.7, 0.12), 0.8),
    ("peg-insert-side", "peg-unplug-side"): View((220,), (-0.05, 0.62, 0.1), 0.8),
}


class Looks(NamedTuple):
    """Ranges of the looks of a split."""

    hues: tuple[float, float]
    azimuth: tuple[float, float]
    elevation: tuple[float, float]


LOOKS = {
    "train": Looks((0, 0.55), (-14, 4), (-42, -32)),
    "val": Looks((0.6, 0.7), (6, 8), (-31, -30)),
    "test": Looks((0.75, 0.95), (10, 16), (-29, -24)),
}
SPLITS = {"train": 60, "val": 20, "test": 30}
CLASSES = tuple(task for pair in PAIRS for task in pair)
TEXT = f"""{len(PAIRS)} pairs of opposite actions of Meta-World, {FRAMES} frames each; successful episodes.
The splits share no episode, no hue and no camera angle: the ranges are in benchmarks/minibench/tabletop.py.
Columns: `pair` (from 0), `task_seed` (of object and goal), `steps` of the policy until the last frame,
`tries` (episodes until one succeeded), `azimuth`, `elevation`, `distance` of the camera."""
ABOUT = About(TEXT, PACKAGES, LICENCE)


class Maker:
    """Makes the clips of one class.

    Attributes:
        looks: of the splits.
    """

    looks = LOOKS

    def __init__(self, label: str) -> None:
        self.pair, (_, self.view) = next((i, x) for i, x in enumerate(PAIRS.items()) if label in x[0])
        self.robot = Robot(label)

    def make(self, split: str, rng: np.random.Generator) -> Made:
        """A clip in the looks of a split."""
        episode = self.robot.run(rng, noise=rng.uniform(0, 0.1), jitter=(0.03, 0.03, 0.02))
        looks = self.looks[split]
        azimuth = float(rng.choice(self.view.azimuths))
        camera = Camera(
            azimuth=azimuth + np.sign(azimuth - FACE) * rng.uniform(*looks.azimuth),
            elevation=rng.uniform(*looks.elevation),
            distance=self.view.distance * rng.uniform(0.93, 1.1),
            look_at=tuple(np.array(self.view.look_at) + rng.uniform(-0.02, 0.02, 3)),
        )
        look = Look(
            hues=looks.hues,
            saturations=(0.15, 0.5),
            values=(0.5, 1.2),
            bleach=1,
            plain=True,
            light=rng.uniform(0.9, 1.2),
            seed=int(rng.integers(2**63)),
        )
        frames = self.robot.render(episode, camera, look)
        return Made(frames, {"pair": self.pair, **episode.row(), **camera.row()})

    def close(self) -> None:
        """Free the simulator."""
        self.robot.close()
