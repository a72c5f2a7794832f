"""The clips of `pretrain.py`: decoded once, then cut into patches with random crops and colours."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

from videossp.data.sampling import ClipFormat, eval_indices
from videossp.data.video import read_frames
from videossp.model.config import VideoMambaConfig
from videossp.system.files import atomic_write

SPEC = VideoMambaConfig(depth=8, d_model=192, size=(96, 96), d_state=8)
FORM = ClipFormat(frames=SPEC.frames, size=SPEC.size)
CACHE = "decoded"  # subfolder of a set
POINTS = ("gripper", "object", "goal", "head", "left hand", "right hand", "left foot", "right foot", "hips")


class Kind(NamedTuple):
    """The targets that the clips of a set have.

    Attributes:
        points: indices of the tracked points among those of a clip.
        first: index of the first of them in POINTS.
        middle, unit: mean and standard deviation, about, of the positions in metres; the middle is (3,), or
            (3,) for each point.
    """

    points: tuple[int, ...]
    first: int
    middle: tuple
    unit: float


ROBOT = Kind((0, 1, 3), 0, (0, 0.7, 0.13), 0.1)  # `minibench/robot.py`
USUAL = ((0, 0, 1.45), (0.2, 0.3, 1.1), (0.2, -0.3, 1.1), (0, 0.16, 0.1), (0, -0.16, 0.1), (0, 0, 0.93))
PERSON = Kind((0, 1, 2, 3, 4, 5), 3, USUAL, 0.2)  # `minibench/people.py`


@njit(nogil=True, cache=True, fastmath=True)
def cut(frames, box, colour, out):
    """Crop each frame, resize it bilinearly, transform its colours and write it as patches.

    Args:
        frames: (T, height, width, 3) uint8.
        box: (4,) top, left, height and width of the crop, in pixels.
        colour: (3, 4) float32, maps (R, G, B, 1) of a pixel to the channels of the clip.
        out: (T, rows, columns, 3, side, side) float32, receives the patches.
    """
    _, rows, columns, _, side, _ = out.shape
    height, width = frames.shape[1:3]
    line = np.empty((width, 3), np.float32)
    left, share = np.empty(columns * side, np.int64), np.empty(columns * side, np.float32)
    for x in range(columns * side):
        at = min(max(box[1] + (x + 0.5) * box[3] / (columns * side) - 0.5, 0.0), width - 1.0)
        left[x] = min(int(at), width - 2)
        share[x] = at - left[x]
    for t in range(len(frames)):
        for y in range(rows * side):
            at = min(max(box[0] + (y + 0.5) * box[2] / (rows * side) - 0.5, 0.0), height - 1.0)
            top = min(int(at), height - 2)
            low = np.float32(at - top)
            for x in range(width):
                for c in range(3):
                    above, below = np.float32(frames[t, top, x, c]), np.float32(frames[t, top + 1, x, c])
                    line[x, c] = above + low * (below - above)
            for x in range(columns * side):
                a, b, s = line[left[x]], line[left[x] + 1], share[x]
                red = a[0] + s * (b[0] - a[0])
                green = a[1] + s * (b[1] - a[1])
                blue = a[2] + s * (b[2] - a[2])
                for c in range(3):
                    mix = colour[c]
                    value = mix[0] * red + mix[1] * green + mix[2] * blue + mix[3]
                    out[t, y // side, x // side, c, y % side, x % side] = value


class Clips:
    """The clips of several sets, decoded once into files that all processes map into memory.

    Attributes:
        frames: by set, (clips, frames, height, width, 3) uint8.
        sets: for each clip, the index of its set and its index in it.
        task: (clips,), indices of `tasks`.
        points: (clips, frames, len(POINTS), 2), x and y in pixels; NaN if the clip has no such point.
        room: (clips, frames, len(POINTS), 3), positions in the room, in the units of the kind.
        opening: (clips, frames), of the gripper, 0 to 1.
        train, held_out: indices of clips.
        fingerprint: hash of the file names and targets.
    """

    def __init__(self, caches: Sequence[Path]) -> None:
        self.frames = [np.load(x / "frames.npy", mmap_mode="r") for x in caches]
        self.sets = [(i, index) for i, frames in enumerate(self.frames) for index in range(len(frames))]
        files = [x / name for x in caches for name in ("names.json", "facts.npz")]
        self.fingerprint = hashlib.sha256(b"".join(x.read_bytes() for x in files)).hexdigest()
        targets = [np.load(x / "facts.npz") for x in caches]
        self.tasks = [name for x in targets for name in x["tasks"].tolist()]
        before = np.cumsum([0, *(len(x["tasks"]) for x in targets)])
        self.task = np.concatenate([x["task"] + n for x, n in zip(targets, before, strict=False)])
        self.points, self.room, self.opening, held_out = (
            np.concatenate([x[key] for x in targets]) for key in ("points", "room", "opening", "held_out")
        )
        self.train, self.held_out = (np.flatnonzero(held_out == x) for x in (False, True))

    @classmethod
    def of(cls, source: Path) -> "Clips":
        """The clips of one set; decodes them if the cache is missing or of other files."""
        cache, files = source / CACHE, sorted(source.glob("*/*/*.mp4"))
        known = [f"{x.relative_to(source)} {x.stat().st_size} {x.stat().st_mtime_ns}" for x in files]
        names = [f"{POINTS} {ROBOT} {PERSON}", *known]
        if not (cache / "names.json").exists() or json.loads((cache / "names.json").read_text()) != names:
            cache.mkdir(parents=True, exist_ok=True)
            (cache / "names.json").unlink(missing_ok=True)
            decode(files, cache)
            atomic_write(cache / "names.json", json.dumps(names))
        return cls([cache])

    def pictures(self, clip: int) -> np.ndarray:
        """(frames, height, width, 3) uint8 of a clip."""
        set_index, index = self.sets[clip]
        return self.frames[set_index][index]

    def view(
        self, clip: int, times: np.ndarray, shown: np.ndarray, box: np.ndarray, colour: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Targets of the frames at `times`, and patches of those at the indices `shown` of `times`.

        Patches are (shown, rows, columns, 3, side, side); points are relative to the box.
        """
        patches = np.empty((len(shown), *SPEC.grid, 3, SPEC.patch, SPEC.patch), np.float32)
        cut(self.pictures(clip)[times[shown]], box, colour, patches)
        points = (self.points[clip][times] - box[1::-1]) / box[3:1:-1]
        points[~((points >= 0) & (points < 1)).all(-1)] = np.nan
        targets = {"room": self.room[clip][times], "opening": self.opening[clip][times]}
        return {"patches": patches, "shown": shown, "points": points, **targets}

    def train_view(self, clip: int, frames: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A view with random times, direction of time, crop and colours, that shows `frames` of its times."""
        count, height, width = self.pictures(clip).shape[:3]
        length = count if rng.random() < 0.5 else int(rng.integers(SPEC.frames, count + 1))
        parts = (np.arange(SPEC.frames) + rng.random(SPEC.frames)) * length / SPEC.frames
        times = int(rng.integers(count - length + 1)) + parts.astype(int)
        back = bool(rng.random() < 0.5)
        side = rng.uniform(0.72, 1.0) * np.exp(rng.uniform(-0.08, 0.08) * np.array([1, -1]))
        size = np.minimum(side, 1) * (height, width)
        box = np.concatenate([rng.random(2) * ((height, width) - size), size])
        shown = np.sort(rng.choice(SPEC.frames, frames, replace=False))
        view = self.view(clip, times[::-1] if back else times, shown, box, colours(rng))
        return {"label": 2 * self.task[clip] + back, **view}

    def test_view(self, clip: int, back: bool) -> dict[str, np.ndarray]:
        """The view of `ClipFormat` for a test: the middles of equal parts of time, the full picture."""
        count, height, width = self.pictures(clip).shape[:3]
        times = np.array(eval_indices(count, FORM))[:: -1 if back else 1]
        box = np.array([0.0, 0.0, height, width])
        view = self.view(clip, times, np.arange(SPEC.frames), box, colours())
        return {"label": 2 * self.task[clip] + back, **view}


def decode(files: list[Path], cache: Path) -> None:
    """Write the frames of the clips SPLIT/TASK/NAME.mp4, and the targets of their .npz files.

    Processes that have mapped the previous frames keep them.
    """
    tasks = sorted({x.parent.name for x in files})
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), *read_frames(files[0]).shape)}
    targets = []
    with (cache / "frames.part").open("wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        for file in files:
            out.write(read_frames(file).tobytes())
            with np.load(file.with_suffix(".npz")) as arrays:
                targets.append(targets_of(arrays))
    (cache / "frames.part").replace(cache / "frames.npy")
    np.savez(
        cache / "facts.npz",
        task=np.array([tasks.index(x.parent.name) for x in files]),
        held_out=np.array([x.parents[1].name == "val" for x in files]),
        tasks=np.array(tasks),
        **{key: np.stack([x[key] for x in targets]) for key in targets[0]},
    )


def targets_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The targets of a clip in the columns that all clips share; NaN for points that it does not have."""
    kind = ROBOT if "opening" in arrays else PERSON
    count, indices = len(arrays["points"]), list(kind.points)
    points, room = (np.full((count, len(POINTS), n), np.nan, np.float32) for n in (2, 3))
    columns = slice(kind.first, kind.first + len(indices))
    points[:, columns] = arrays["points"][:, indices]
    room[:, columns] = (arrays["world"][:, indices] - kind.middle) / kind.unit
    opening = arrays["opening"] if kind is ROBOT else np.full(count, np.nan, np.float32)
    return {"points": points, "room": room, "opening": opening}


def colours(rng: np.random.Generator | None = None) -> np.ndarray:
    """(3, 4), see `cut`: the normalisation of `ClipFormat`, after random saturation, contrast and tint."""
    mix, shift = np.eye(3), np.zeros(3)
    if rng:
        saturation = rng.uniform(0.7, 1.2)
        mix = saturation * mix + (1 - saturation) * np.array([0.299, 0.587, 0.114])
        gain = np.exp(rng.uniform(-0.2, 0.2) + rng.uniform(-0.05, 0.05, 3))
        shift = 0.5 - 0.5 * gain + rng.uniform(-0.1, 0.1)
        mix = gain[:, None] * mix
    mean, std = np.array(FORM.mean), np.array(FORM.std)
    return np.c_[mix / 255, shift - mean].astype(np.float32) / std[:, None].astype(np.float32)


def stack(views: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """Stack views to a batch with the same keys; patches become rows, (B, shown, P, 3 side side)."""
    batch = {key: torch.from_numpy(np.stack([x[key] for x in views])) for key in views[0]}
    batch["patches"] = batch["patches"].flatten(2, 3).flatten(3)
    return {key: x if key in ("label", "shown") else x.float() for key, x in batch.items()}
