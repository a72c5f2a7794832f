"""Which frames of a video make a clip. This file needs no torch, so that the doctor's workers start fast."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Sampling = Literal["uniform", "sparse", "double", "dense"]


@dataclass(frozen=True)
class ClipFormat:
    """Frames, size and normalisation of a clip. It is saved with a classifier, so prediction equals training.

    Attributes:
        frames: number of frames of a clip.
        size: (height, width) in pixels.
        sampling: which frames of a video.
            "uniform" (TSN): one frame of each of `frames` equal parts of the video, a random one in training,
            the middle one in tests.
            "sparse": the same, with the parts and rounding of the published reader for K400 and Breakfast.
            "double": uniform, but a test takes at most two clips, the starts and the middles of the parts
            (Something-Something V2).
            "dense": a window of `frames` frames, `stride` apart; anywhere in training, evenly spread from the
            start to the end in tests.
        stride: distance of the frames in a dense window.
        mean, std: of each colour channel, for pixels in [0, 1].
        views: (segments, crops) of a test, as the recipe prescribes; the default of `evaluate`.
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
    """Check the number of views of a test.

    Raises:
        ValueError: fewer than one segment or crop, or more than two segments with "double" sampling.
    """
    if segments < 1 or crops < 1:
        raise ValueError(f"segments and crops must be at least 1, got {segments} and {crops}")
    if clip_format.sampling == "double" and segments > 2:
        raise ValueError(f"double sampling has 2 segments, the starts and the middles, not {segments}")


def eval_indices(count: int, clip_format: ClipFormat, segment: int = 0, segments: int = 1) -> list[int]:
    """Frame indices of a test clip.

    Uniform and sparse: clip k takes the frame at (k + 1) / (segments + 1) of each part, so a single clip
    takes the middles. Double: the first of two clips takes the starts, the second one the middles. Dense:
    windows are evenly spread, a single one is in the centre. A video shorter than the window repeats its last
    frame.

    Args:
        count: number of frames of the video.
        segment, segments: number of this clip, from 0, and how many clips the test takes.
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
    """Random frame indices of a training clip: one frame of each part, or for "dense" a window anywhere.

    Args:
        count: number of frames of the video.
    """
    if clip_format.sampling == "dense":
        room = max(0, count - clip_format.frames * clip_format.stride)
        start = int(rng.integers(room + 1))
        return [min(start + i * clip_format.stride, count - 1) for i in range(clip_format.frames)]
    if clip_format.sampling == "sparse":
        ends = np.round((count - 1) / clip_format.frames * np.arange(clip_format.frames + 1)).astype(int)
        return [int(rng.integers(first, last + 1)) for first, last in zip(ends, ends[1:], strict=False)]
    return [int((i + x) * count / clip_format.frames) for i, x in enumerate(rng.random(clip_format.frames))]
