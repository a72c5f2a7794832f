"""`source`, half of the pretraining data of videomamba_nano: the 24 tasks of Meta-World not in `tabletop`.

Each clip is stored once, forward; training reads some clips backward, with the labels task x {forward,
reversed}. The ranges of the looks are wider than in `tabletop`. A .npz next to each clip has the targets of
its frames (`Robot.targets`). Validation clips come from other random streams, with the same looks.
"""

import numpy as np
from clipset import Made
from note import About
from robot import FACE, FRAMES, LICENCE, PACKAGES, POINTS, TASKS, Camera, Look, Robot
from tabletop import PAIRS

SPLITS = {"train": 200, "val": 10}
CLASSES = tuple(x for x in TASKS if x not in {task for pair in PAIRS for task in pair})
TEXT = f"""Meta-World's {len(CLASSES)} tasks that are not in `tabletop`, {FRAMES} frames each, forward;
successful episodes only. Columns: `task_seed` (of object and goal), `steps` of the policy until the last
frame, `tries` (episodes until one succeeded), `azimuth`, `elevation`, `distance` of the camera, `targets`,
which is a .npz: `points` ({FRAMES}, {len(POINTS)}, 2) pixels (x, y) of {", ".join(POINTS)}, nan where the
task has none; `inside` ({FRAMES}, {len(POINTS)}) whether they lie in the picture (they may be hidden behind
something); `opening` ({FRAMES},) of the gripper, 0 to 1; `world` ({FRAMES}, {len(POINTS)}, 3) in metres."""
ABOUT = About(TEXT, PACKAGES, LICENCE)


class Maker:
    """Makes the clips of one task."""

    def __init__(self, label: str) -> None:
        self.robot = Robot(label)

    def make(self, split: str, rng: np.random.Generator) -> Made:
        """A clip; the splits differ in their random streams only."""
        episode = self.robot.run(rng, noise=rng.uniform(0, 0.15), jitter=(0.08, 0.05, 0.04))
        camera = Camera(
            azimuth=FACE + rng.choice((-1, 1)) * rng.uniform(25, 95),
            elevation=rng.uniform(-55, -15),
            distance=rng.uniform(0.8, 1.3),
            look_at=tuple(np.array((0, 0.68, 0.13)) + rng.uniform(-1, 1, 3) * (0.08, 0.08, 0.06)),
        )
        look = Look(
            hues=(0, 1),
            saturations=(0, rng.uniform(0, 0.7)),
            values=(0.3, 1.3),
            bleach=rng.uniform(0, 1),
            plain=False,
            light=rng.uniform(0.7, 1.5),
            seed=int(rng.integers(2**63)),
        )
        frames = self.robot.render(episode, camera, look)
        return Made(frames, {**episode.row(), **camera.row()}, self.robot.targets(episode, camera))

    def close(self) -> None:
        """Free the simulator."""
        self.robot.close()
