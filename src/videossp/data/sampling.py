"""Which frames of a video make a clip. No torch here: the workers of the doctor import it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Sampling = Literal["uniform", "sparse", "double", "dense"]


@dataclass(frozen=True)
class ClipFormat:
    """How a video becomes the clip a classifier reads; saved with it, so that prediction equals training.

    Attributes:
        frames: frames of a clip.
        size: (height, width) in pixels.
        sampling: which frames.
            "uniform": one of each of `frames` equal parts of the video, at random in training, the middle
            in tests (TSN); "sparse": the same with the parts and the rounding of the published sparse
            reader (K400, Breakfast); "double": uniform, but a test takes exactly two clips, the
            starts and the middles of the parts (Something-Something V2); "dense": a window of `frames`
            frames, `stride` apart, anywhere in training, spread from end to end in tests.
        stride: distance of the frames of a dense window, in frames.
        mean, std: of each colour channel, for pixels in [0, 1].
        views: (segments, crops) of a test, as the recipe prescribes; `evaluate` takes them by default.
    """

    frames: int = 8
    size: tuple[int, int] = (224, 224)
    sampling: Sampling = "uniform"
    stride: int = 4
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    views: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        for name in ("size", "mean", "std", "views"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.sampling not in ("uniform", "sparse", "double", "dense"):
            raise ValueError(f"sampling must be uniform, sparse, double or dense, got {self.sampling!r}")
        if self.frames < 1 or self.stride < 1:
            raise ValueError("frames and stride must be at least 1")
        check_views(self, *self.views)


def check_views(clip_format: ClipFormat, segments: int, crops: int) -> None:
    """A ValueError if a test cannot take these views."""
    if segments < 1 or crops < 1:
        raise ValueError(f"segments and crops must be at least 1, got {segments} and {crops}")
    if clip_format.sampling == "double" and segments > 2:
        raise ValueError(f"double sampling has 2 segments, the starts and the middles, not {segments}")


def eval_indices(count: int, clip_format: ClipFormat, segment: int = 0, segments: int = 1) -> list[int]:
    """Frame indices of one of `segments` clips that a test takes from a video of `count` frames.

    Uniform, sparse: clip k takes the point (k + 1) / (segments + 1) of each part, so one clip takes the
    middles. Double: of two clips the first takes the starts, the second the middles. Dense: windows spread
    evenly from the first to the last place, one in the centre; frames past the end of a short video
    repeat its last one.
    """
    parts = range(clip_format.frames)
    if clip_format.sampling == "sparse":
        part = (count - 1) / clip_format.frames
        step = int(part / (segments + 1) * (segment + 1))
        return [min(int(np.round(part * i)) + step, count - 1) for i in parts]
    if clip_format.sampling == "dense":
        room = max(0, count - clip_format.frames * clip_format.stride)
        start = room // 2 if segments == 1 else segment * room // (segments - 1)
        return [min(start + i * clip_format.stride, count - 1) for i in parts]
    offset = (segment + 1) / (segments + 1)
    if clip_format.sampling == "double":
        offset = segment / 2 if segments == 2 else 1 / 2
    return [int((i + offset) * count / clip_format.frames) for i in parts]


def train_indices(count: int, clip_format: ClipFormat, rng: np.random.Generator) -> list[int]:
    """Random frame indices: one of each part (uniform, sparse, double) or a window anywhere (dense)."""
    if clip_format.sampling == "dense":
        room = max(0, count - clip_format.frames * clip_format.stride)
        start = int(rng.integers(room + 1))
        return [min(start + i * clip_format.stride, count - 1) for i in range(clip_format.frames)]
    if clip_format.sampling == "sparse":
        ends = np.round((count - 1) / clip_format.frames * np.arange(clip_format.frames + 1)).astype(int)
        return [int(rng.integers(first, last + 1)) for first, last in zip(ends, ends[1:], strict=False)]
    return [int((i + x) * count / clip_format.frames) for i, x in enumerate(rng.random(clip_format.frames))]
