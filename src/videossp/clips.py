"""Frames -> clip: which frames, which crop, mirrored, normalised; and data sets of clips for the loops."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from videossp.datasets import Sample
from videossp.video import DataError, Frames, Video, read_frames, read_video

Sampling = Literal["uniform", "dense"]
# Class names that a mirror image would make wrong.
DIRECTION = re.compile(
    r"(^|[^a-z])(left|right|leftwards?|rightwards?|(anti|counter)?-?clockwise|east|west)([^a-z]|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ClipFormat:
    """How a video becomes the clip a classifier reads; saved with it, so that prediction equals training.

    Attributes:
        frames: frames of a clip.
        size: (height, width) in pixels.
        sampling: "uniform": one frame from each of `frames` equal parts of the video (TSN);
            "dense": a window of `frames` frames, `stride` apart.
        stride: distance of the frames of a dense window, in frames.
        mean, std: of each colour channel, for pixels in [0, 1].
    """

    frames: int = 8
    size: tuple[int, int] = (224, 224)
    sampling: Sampling = "uniform"
    stride: int = 4
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        for name in ("size", "mean", "std"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.sampling not in ("uniform", "dense"):
            raise ValueError(f"sampling must be uniform or dense, got {self.sampling!r}")
        if self.frames < 1 or self.stride < 1:
            raise ValueError("frames and stride must be at least 1")


def test_indices(count: int, form: ClipFormat, segment: int = 0, segments: int = 1) -> list[int]:
    """Frame indices of one of `segments` clips that a test takes from a video of `count` frames.

    Uniform: clip k takes the point (k + 1) / (segments + 1) of each part, so one clip takes the middles.
    Dense: windows spread evenly from the first to the last place, one in the centre; frames past
    the end of a short video repeat its last one.
    """
    if form.sampling == "uniform":
        offset = (segment + 1) / (segments + 1)
        return [int((i + offset) * count / form.frames) for i in range(form.frames)]
    room = max(0, count - (form.frames - 1) * form.stride - 1)
    start = room // 2 if segments == 1 else segment * room // (segments - 1)
    return [min(start + i * form.stride, count - 1) for i in range(form.frames)]


def train_indices(count: int, form: ClipFormat, rng: np.random.Generator) -> list[int]:
    """Random frame indices: one of each part (uniform) or a window anywhere (dense)."""
    if form.sampling == "uniform":
        offsets = rng.random(form.frames)
        return [int((i + x) * count / form.frames) for i, x in enumerate(offsets)]
    room = max(0, count - (form.frames - 1) * form.stride - 1)
    start = int(rng.integers(room + 1))
    return [min(start + i * form.stride, count - 1) for i in range(form.frames)]


def to_clip(frames: Frames, form: ClipFormat, crop: int = 0, crops: int = 1) -> Tensor:
    """One test crop of decoded frames: resized to cover the format's size, cut out, normalised.

    With one crop the centre; with more, from one end of the longer side to the other.

    Args:
        frames: (time, height, width, 3) uint8.

    Returns:
        (3, time, height, width) float32.
    """
    height, width = form.size
    scale = max(height / frames.shape[1], width / frames.shape[2])
    covering = (
        max(height, round(frames.shape[1] * scale)),
        max(width, round(frames.shape[2] * scale)),
    )
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)
    if covering != images.shape[2:]:
        images = F.interpolate(images, covering, mode="bilinear", antialias=True)
    spare = covering[0] - height, covering[1] - width
    top, left = (x // 2 if crops == 1 else crop * x // (crops - 1) for x in spare)
    return normalise(images[..., top : top + height, left : left + width].float() / 255, form)


def random_crop(
    frames: Frames, form: ClipFormat, scale: tuple[float, float], rng: np.random.Generator
) -> Tensor:
    """One random box for all frames, resized: area a share within `scale`, sides' ratio 3/4 to 4/3.

    The box of Inception training (Szegedy et al. 2015); where ten draws do not fit into the frame,
    the largest centred box of the format's shape. Resized with antialiasing, as tests are.

    Returns:
        (time, 3, height, width) float32 in [0, 1].
    """
    _, rows, columns, _ = frames.shape
    for _ in range(10):
        area = rows * columns * rng.uniform(*scale)
        ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        height, width = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
        if 0 < height <= rows and 0 < width <= columns:
            top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
            break
    else:
        shrink = min(rows / form.size[0], columns / form.size[1])
        height, width = max(1, int(form.size[0] * shrink)), max(1, int(form.size[1] * shrink))
        top, left = (rows - height) // 2, (columns - width) // 2
    images = torch.from_numpy(frames[:, top : top + height, left : left + width]).permute(0, 3, 1, 2)
    return F.interpolate(images.float() / 255, form.size, mode="bilinear", antialias=True)


def mirror(flip: str, classes: Sequence[str]) -> bool:
    """Whether clips may be mirrored."""
    return flip == "on" or (flip == "auto" and not any(DIRECTION.search(spaced(x)) for x in classes))


def spaced(name: str) -> str:
    """turn_left and TurnLeft as separate words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ")


def normalise(images: Tensor, form: ClipFormat) -> Tensor:
    """(time, 3, height, width) in [0, 1] to a clip, (3, time, height, width)."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (form.mean, form.std))
    return ((images - mean) / std).transpose(0, 1).contiguous()


def read_views(path: str | Video, form: ClipFormat, segments: int = 1, crops: int = 1) -> Tensor:
    """All test views of a video, decoded once: (views, 3, frames, height, width), segment by segment."""
    if segments < 1 or crops < 1:
        raise ValueError(f"segments and crops must be at least 1, got {segments} and {crops}")
    video = path if isinstance(path, Video) else read_video(path)
    count = len(video.times)
    indices = [i for k in range(segments) for i in test_indices(count, form, k, segments)]
    parts = np.split(read_frames(video, lambda _: indices), segments)
    return torch.stack([to_clip(part, form, k, crops) for part in parts for k in range(crops)])


class TrainClips(Dataset[tuple[Tensor | None, int, str, str]]):
    """Augmented clips of samples: random frames, one random crop and flip for all frames of a clip.

    What item i gives depends on (seed, epoch, i) alone, not on workers or order: (clip, label, name, ""),
    or (None, label, name, reason) for a video that cannot be decoded.

    Args:
        samples: labelled videos.
        form: what a clip looks like.
        scale: smallest and largest share of a frame's area that a random crop covers.
        flip: mirror half of the clips left to right.
        seed: of the whole run; set `epoch` before each pass.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        form: ClipFormat,
        *,
        scale: tuple[float, float],
        flip: bool,
        seed: int,
    ) -> None:
        self.samples, self.form, self.seed, self.epoch = samples, form, seed, 0
        self.scale, self.flip = scale, flip

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor | None, int, str, str]:
        sample = self.samples[index]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        try:
            frames = read_frames(sample.path, lambda count: train_indices(count, self.form, rng))
        except DataError as error:
            return None, sample.label, sample.name, str(error)
        clip = normalise(random_crop(frames, self.form, self.scale, rng), self.form)
        if self.flip and rng.random() < 0.5:
            clip = clip.flip(-1)
        return clip, sample.label, sample.name, ""


class TestViews(Dataset[tuple[Tensor | None, str]]):
    """All views of each video, or the reason why it cannot be decoded."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(self, paths: Sequence[str], form: ClipFormat, segments: int = 1, crops: int = 1) -> None:
        if segments < 1 or crops < 1:
            raise ValueError(f"segments and crops must be at least 1, got {segments} and {crops}")
        self.paths, self.form, self.segments, self.crops = paths, form, segments, crops

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor | None, str]:
        try:
            return read_views(self.paths[index], self.form, self.segments, self.crops), ""
        except DataError as error:
            return None, str(error)
