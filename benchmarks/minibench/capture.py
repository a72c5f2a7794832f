"""`Capture`: the takes of the Bandai-Namco Research Motion Dataset 2, real people in a motion capture studio.

It has 2,902 takes of 10 actions in 7 styles at 30 frames a second. It is read from a clone of its repository
(BVH files) or from one .npz with joint positions. The splits share no style, and therefore no take.

Kobayashi, Liao, Inoue, Yojima, Takahashi (Bandai Namco Research Inc.): Motion Capture Dataset for Practical
Use of AI-based Motion Editing and Stylization, arXiv 2306.08861, 2023. CC BY-NC 4.0: see LICENCE.
"""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np

REPOSITORY = "https://github.com/BandaiNamcoResearchInc/Bandai-Namco-Research-Motiondataset"
LICENCE = f"""The people in these clips move as in the Bandai-Namco Research Motion Dataset 2, by Bandai Namco
Research Inc. (arXiv 2306.08861), {REPOSITORY}
It is licensed under Creative Commons Attribution-NonCommercial 4.0 International (CC BY-NC 4.0):
https://creativecommons.org/licenses/by-nc/4.0/legalcode

Changes: parts of the takes were resampled, turned, joined (recipes) and drawn as people made of capsules.
The clips are under the same licence: name the source, no commercial use. It comes without any warranty.
Neither the motions, nor these clips, nor anything trained on them is part of videossp.
"""
ACTIONS = (
    *(f"raise-up-{x}" for x in ("both-hands", "left-hand", "right-hand")),
    *("run", "walk", "walk-turn-left", "walk-turn-right"),
    *(f"wave-{x}" for x in ("both-hands", "left-hand", "right-hand")),
)
STYLES = {  # of the splits
    "train": ("active", "feminine", "masculine", "normal"),
    "val": ("exhausted",),
    "test": ("elderly", "youthful"),
}
UNLABELLED = {  # takes that turn against their name, or hardly at all
    *(f"walk-turn-{x}_masculine_{take}" for x in ("left", "right") for take in ("006", "007")),
    *(f"walk-turn-left_normal_{take}" for take in ("031", "032")),
    *(f"walk-turn-right_normal_{take}" for take in ("032", "033")),
}
SIDES = tuple(f"{x}_{side}" for side in "LR" for x in ("Shoulder", "UpperArm", "LowerArm", "Hand"))
LEGS = tuple(f"{x}_{side}" for side in "LR" for x in ("UpperLeg", "LowerLeg", "Foot", "Toes"))
JOINTS = ("Hips", "Spine", "Chest", "Neck", "Head", *SIDES, *LEGS)
AXES = [2, 0, 1]  # forward, left, up; in the files x points left, y up, z forward
METRES = 0.01


class Capture:
    """The takes below a path."""

    def __init__(self, path: Path | None) -> None:
        """List the takes.

        Raises:
            ValueError: there are no takes of some action in some style.
        """
        advice = f"--data takes a clone of {REPOSITORY}, unpacked, or a .npz of its joint positions"
        if path is None:
            raise ValueError(f"this set needs recorded motions: {advice}")
        self.archive = None
        if zipfile.is_zipfile(path):
            self.content = path.read_bytes()
            self.archive = np.load(io.BytesIO(self.content))
            files = {x: x for x in self.archive.files} if "_names" in self.archive.files else {}
        else:
            files = {x.stem: x for x in sorted(path.rglob("dataset-2_*.bvh"))}
            self.content = "".join(f"{name} {x.stat().st_size}\n" for name, x in files.items()).encode()
        self.files = {x.removeprefix("dataset-2_"): file for x, file in files.items() if "dataset-2_" in x}
        for action in ACTIONS:
            for style in (x for styles in STYLES.values() for x in styles):
                if not self.takes(action, style):
                    raise ValueError(f"{path}: no take of {action}, {style}; {advice}")

    @property
    def hash(self) -> str:
        """Hash of the archive; for BVH files, of their names and sizes."""
        return hashlib.sha256(self.content).hexdigest()

    def takes(self, action: str, style: str) -> list[str]:
        """Names of takes, ACTION_STYLE_NUMBER."""
        return [x for x in self.files if x.startswith(f"{action}_{style}_") and x not in UNLABELLED]

    def joints(self, take: str) -> np.ndarray:
        """Joint positions (frames, len(JOINTS), 3) of a take in metres; x, y, z are forward, left, up."""
        if self.archive:
            names, positions = self.archive["_names"].tolist(), self.archive[self.files[take]].astype(float)
        else:
            names, positions = read_bvh(self.files[take].read_text())
        return positions[:, [names.index(x) for x in JOINTS]][..., AXES] * METRES


def read_bvh(text: str) -> tuple[list[str], np.ndarray]:
    """Names and positions (frames, joints, 3) of the joints of a BVH file, in its units and axes."""
    hierarchy, motion = text.split("MOTION")
    names, parents, offsets, channels, open_ = [], [], [], [], []
    for line in hierarchy.splitlines():
        match line.split():
            case ["ROOT" | "JOINT" | "End", name]:
                names.append(name if name != "Site" else f"{names[-1]}_end")
                parents.append(open_[-1] if open_ else None)
            case ["{"]:
                open_.append(len(names) - 1)
            case ["}"]:
                open_.pop()
            case ["OFFSET", *offset]:
                offsets.append(np.array(offset, float))
            case ["CHANNELS", _, *kinds]:
                channels += [(open_[-1], x) for x in kinds]
    _, count, _, _, _, *values = motion.split()  # Frames: 2 Frame Time: 0.0333 1.5 ...
    values = np.array(values, float).reshape(int(count), len(channels))
    moved = np.tile(offsets, (len(values), 1, 1))  # (frames, joints, 3) from the parent, in its axes
    turned = np.tile(np.eye(3), (len(values), len(names), 1, 1))
    for (joint, kind), value in zip(channels, values.T, strict=True):
        axis = "XYZ".index(kind[0])
        if kind.endswith("position"):
            moved[:, joint, axis] = value
        else:
            turned[:, joint] @= rotations(axis, np.radians(value))
    for joint, parent in enumerate(parents):
        if parent is not None:  # the parent comes first: from here on both are in world axes
            moved[:, joint] = moved[:, parent] + (turned[:, parent] @ moved[:, joint, :, None])[..., 0]
            turned[:, joint] = turned[:, parent] @ turned[:, joint]
    return names, moved


def rotations(axis: int, angles: np.ndarray) -> np.ndarray:
    """Rotation matrices about an axis, (angles, 3, 3)."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrices = np.tile(np.eye(3), (len(angles), 1, 1))
    matrices[:, i, i] = matrices[:, j, j] = np.cos(angles)
    matrices[:, j, i] = np.sin(angles)
    matrices[:, i, j] = -matrices[:, j, i]
    return matrices


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors scaled to length 1; those of length 0 stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def window(
    joints: np.ndarray, rng: np.random.Generator, spans: tuple[int, int]
) -> tuple[np.ndarray, int, int]:
    """A random part around the middle of a take, its first frame and its number of frames."""
    span = min(int(rng.integers(spans[0], spans[1] + 1)), len(joints))
    start = round((len(joints) - span) / 2 + rng.uniform(-10, 10))
    start = min(max(start, 0), len(joints) - span)
    return joints[start : start + span], start, span


def sample(joints: np.ndarray, frames: int) -> np.ndarray:
    """A motion resampled to the middles of `frames` equal parts, with linear interpolation."""
    moments = np.clip((np.arange(frames) + 0.5) * len(joints) / frames - 0.5, 0, len(joints) - 1)
    before = np.minimum(moments.astype(int), len(joints) - 2)
    part = (moments - before)[:, None, None]
    return (1 - part) * joints[before] + part * joints[before + 1]


def face_front(joints: np.ndarray) -> np.ndarray:
    """The motion moved and turned: the hips start above the origin, and the body faces x on average."""
    left = (joints[:, JOINTS.index("UpperLeg_L")] - joints[:, JOINTS.index("UpperLeg_R")]).sum(0)
    heading = np.arctan2(-left[0], left[1])
    origin = joints[0, JOINTS.index("Hips")] * (1, 1, 0)
    return (joints - origin) @ rotations(2, np.array([heading]))[0]
