"""The clips that `pretrain.py` learns from: decoded once, cut into patches in other crops and colours."""

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
CACHE = "decoded"  # folder in that of a set
POINTS = ("gripper", "object", "goal", "head", "left hand", "right hand", "left foot", "right foot", "hips")


class Kind(NamedTuple):
    """What the clips of a set know.

    Attributes:
        points: which of the points that a clip knows are followed.
        first: where they begin among POINTS.
        middle, unit: of places in metres, so that they are of mean 0 and standard deviation 1, about; the
            middle is (3,), or one for each point.
    """

    points: tuple[int, ...]
    first: int
    middle: tuple
    unit: float


ROBOT = Kind((0, 1, 3), 0, (0, 0.7, 0.13), 0.1)  # of `minibench/robot.py`
USUAL = ((0, 0, 1.45), (0.2, 0.3, 1.1), (0.2, -0.3, 1.1), (0, 0.16, 0.1), (0, -0.16, 0.1), (0, 0, 0.93))
PERSON = Kind((0, 1, 2, 3, 4, 5), 3, USUAL, 0.2)  # of `minibench/people.py`


@njit(nogil=True, cache=True, fastmath=True)
def cut(frames, box, colour, out):
    """One part of each frame, resized bilinearly and with its colours mixed, patch by patch.

    Args:
        frames: (T, height, width, 3) uint8.
        box: (4,) top, left, height and width of the part, in pixels.
        colour: (3, 4) float32, gives a channel of the clip from (R, G, B, 1) of a pixel.
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
    """The clips of some sets, decoded once into files that all processes map into memory.

    Attributes:
        frames: of each set, (clips, frames, height, width, 3) uint8.
        sets: (clips,), in which of them a clip is, and where.
        task: (clips,), names in `tasks`.
        points: (clips, frames, len(POINTS), 2), x and y in pixels; NaN where there is none.
        room: (clips, frames, len(POINTS), 3), the same in the units of the kind.
        opening: (clips, frames), of a gripper, 0 to 1.
        train, held_out: indices of clips.
        fingerprint: of their names and facts.
    """

    def __init__(self, caches: Sequence[Path]) -> None:
        self.frames = [np.load(x / "frames.npy", mmap_mode="r") for x in caches]
        self.sets = [(i, place) for i, frames in enumerate(self.frames) for place in range(len(frames))]
        files = [x / name for x in caches for name in ("names.json", "facts.npz")]
        self.fingerprint = hashlib.sha256(b"".join(x.read_bytes() for x in files)).hexdigest()
        facts = [np.load(x / "facts.npz") for x in caches]
        self.tasks = [name for x in facts for name in x["tasks"].tolist()]
        before = np.cumsum([0, *(len(x["tasks"]) for x in facts)])
        self.task = np.concatenate([x["task"] + n for x, n in zip(facts, before, strict=False)])
        self.points, self.room, self.opening, held_out = (
            np.concatenate([x[key] for x in facts]) for key in ("points", "room", "opening", "held_out")
        )
        self.train, self.held_out = (np.flatnonzero(held_out == x) for x in (False, True))

    @classmethod
    def of(cls, source: Path) -> "Clips":
        """Those of one set that are there now; decodes them if there are others than in the cache."""
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
        which, place = self.sets[clip]
        return self.frames[which][place]

    def view(
        self, clip: int, times: np.ndarray, shown: np.ndarray, box: np.ndarray, colour: np.ndarray
    ) -> dict[str, np.ndarray]:
        """What is known of the frames at `times`, and patches of the `shown` ones of these.

        Patches are (shown, rows, columns, 3, side, side), points in shares of the box.
        """
        patches = np.empty((len(shown), *SPEC.grid, 3, SPEC.patch, SPEC.patch), np.float32)
        cut(self.pictures(clip)[times[shown]], box, colour, patches)
        points = (self.points[clip][times] - box[1::-1]) / box[3:1:-1]
        points[~((points >= 0) & (points < 1)).all(-1)] = np.nan
        facts = {"room": self.room[clip][times], "opening": self.opening[clip][times]}
        return {"patches": patches, "shown": shown, "points": points, **facts}

    def train_view(self, clip: int, frames: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Times, direction of time, crop and colours at random; of the times so many are shown."""
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
        """The middles of equal parts of time, the whole picture: what `ClipFormat` prescribes for a test."""
        count, height, width = self.pictures(clip).shape[:3]
        times = np.array(eval_indices(count, FORM))[:: -1 if back else 1]
        box = np.array([0.0, 0.0, height, width])
        view = self.view(clip, times, np.arange(SPEC.frames), box, colours())
        return {"label": 2 * self.task[clip] + back, **view}


def decode(files: list[Path], cache: Path) -> None:
    """Write the frames of clips SPLIT/TASK/NAME.mp4, and the facts in the .npz beside each.

    Whoever has mapped the frames of before keeps them.
    """
    tasks = sorted({x.parent.name for x in files})
    form = {"descr": "|u1", "fortran_order": False, "shape": (len(files), *read_frames(files[0]).shape)}
    facts = []
    with (cache / "frames.part").open("wb") as out:
        np.lib.format.write_array_header_1_0(out, form)
        for file in files:
            out.write(read_frames(file).tobytes())
            with np.load(file.with_suffix(".npz")) as known:
                facts.append(facts_of(known))
    (cache / "frames.part").replace(cache / "frames.npy")
    np.savez(
        cache / "facts.npz",
        task=np.array([tasks.index(x.parent.name) for x in files]),
        held_out=np.array([x.parents[1].name == "val" for x in files]),
        tasks=np.array(tasks),
        **{key: np.stack([x[key] for x in facts]) for key in facts[0]},
    )


def facts_of(known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a clip knows, in the columns that all clips have: NaN where there is nothing of the kind."""
    kind = ROBOT if "opening" in known else PERSON
    count, places = len(known["points"]), list(kind.points)
    points, room = (np.full((count, len(POINTS), n), np.nan, np.float32) for n in (2, 3))
    own = slice(kind.first, kind.first + len(places))
    points[:, own] = known["points"][:, places]
    room[:, own] = (known["world"][:, places] - kind.middle) / kind.unit
    opening = known["opening"] if kind is ROBOT else np.full(count, np.nan, np.float32)
    return {"points": points, "room": room, "opening": opening}


def colours(rng: np.random.Generator | None = None) -> np.ndarray:
    """(3, 4), see `cut`: the normalisation of `ClipFormat`, after saturation, contrast and tint at random."""
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
    """A batch of the same keys, with the patches as rows: (B, shown, P, 3 side side)."""
    batch = {key: torch.from_numpy(np.stack([x[key] for x in views])) for key in views[0]}
    batch["patches"] = batch["patches"].flatten(2, 3).flatten(3)
    return {key: x if key in ("label", "shown") else x.float() for key, x in batch.items()}
