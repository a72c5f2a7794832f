"""Frames -> clip: which frames, which crop, normalised; and data sets of clips for the loops."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from videossp.data.augment import RandAugment, erase, random_crop
from videossp.data.datasets import Sample
from videossp.data.video import DataError, Frames, Video, read_frames, read_video

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


def check_views(form: ClipFormat, segments: int, crops: int) -> None:
    """A ValueError if a test cannot take these views."""
    if segments < 1 or crops < 1:
        raise ValueError(f"segments and crops must be at least 1, got {segments} and {crops}")
    if form.sampling == "double" and segments > 2:
        raise ValueError(f"double sampling has 2 segments, the starts and the middles, not {segments}")


def test_indices(count: int, form: ClipFormat, segment: int = 0, segments: int = 1) -> list[int]:
    """Frame indices of one of `segments` clips that a test takes from a video of `count` frames.

    Uniform, sparse: clip k takes the point (k + 1) / (segments + 1) of each part, so one clip takes the
    middles. Double: of two clips the first takes the starts, the second the middles. Dense: windows spread
    evenly from the first to the last place, one in the centre; frames past the end of a short video
    repeat its last one.
    """
    parts = range(form.frames)
    if form.sampling == "sparse":
        part = (count - 1) / form.frames
        step = int(part / (segments + 1) * (segment + 1))
        return [min(int(np.round(part * i)) + step, count - 1) for i in parts]
    if form.sampling == "dense":
        room = max(0, count - form.frames * form.stride)
        start = room // 2 if segments == 1 else segment * room // (segments - 1)
        return [min(start + i * form.stride, count - 1) for i in parts]
    offset = (segment + 1) / (segments + 1)
    if form.sampling == "double":
        offset = segment / 2 if segments == 2 else 1 / 2
    return [int((i + offset) * count / form.frames) for i in parts]


def train_indices(count: int, form: ClipFormat, rng: np.random.Generator) -> list[int]:
    """Random frame indices: one of each part (uniform, sparse, double) or a window anywhere (dense)."""
    if form.sampling == "dense":
        room = max(0, count - form.frames * form.stride)
        start = int(rng.integers(room + 1))
        return [min(start + i * form.stride, count - 1) for i in range(form.frames)]
    if form.sampling == "sparse":
        ends = np.round((count - 1) / form.frames * np.arange(form.frames + 1)).astype(int)
        return [int(rng.integers(first, last + 1)) for first, last in zip(ends, ends[1:], strict=False)]
    return [int((i + x) * count / form.frames) for i, x in enumerate(rng.random(form.frames))]


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


def normalise(images: Tensor, form: ClipFormat) -> Tensor:
    """(time, 3, height, width) in [0, 1] to a clip, (3, time, height, width)."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (form.mean, form.std))
    return ((images - mean) / std).transpose(0, 1).contiguous()


def read_views(path: str | Video, form: ClipFormat, segments: int = 1, crops: int = 1) -> Tensor:
    """All test views of a video, decoded once: (views, 3, frames, height, width), segment by segment."""
    check_views(form, segments, crops)
    video = path if isinstance(path, Video) else read_video(path)
    indices = [i for k in range(segments) for i in test_indices(len(video), form, k, segments)]
    parts = np.split(read_frames(video, lambda _: indices), segments)
    return torch.stack([to_clip(part, form, k, crops) for part in parts for k in range(crops)])


def identity(sample: Sample) -> str:
    """The video of a sample as it is now: paths, sizes, times of change, and which part of it."""
    path = Path(sample.path)
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    state = [(x.name, x.stat().st_size, x.stat().st_mtime_ns) for x in files]
    return f"{path.resolve()} {state} {sample.start} {sample.end}"


class TrainClips(Dataset[tuple[Tensor | None, int, str, str]]):
    """Augmented clips of samples; one draw for all frames of a clip.

    What item i gives depends on (seed, epoch, i) alone, not on workers or order: (clips, label, name, "")
    with clips (num_sample, 3, frames, height, width), or (None, label, name, reason) for a video that
    cannot be decoded.

    Args:
        samples: labelled videos.
        form: what a clip looks like.
        scale: smallest and largest share of a frame's area that a random crop covers.
        flip: mirror half of the clips left to right.
        seed: of the whole run; set `epoch` before each pass.
        num_sample: clips of a video; they have the same frames, and augmentations of their own.
        rand_augment: applied to the whole frames first, or None.
        erasing: probability of random erasing, applied last.
        draws: augmentations of each video, which the epochs take in turn; 0: another in each epoch.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        form: ClipFormat,
        *,
        scale: tuple[float, float],
        flip: bool,
        seed: int,
        num_sample: int = 1,
        rand_augment: RandAugment | None = None,
        erasing: float = 0.0,
        draws: int = 0,
    ) -> None:
        self.samples, self.form, self.seed, self.epoch = samples, form, seed, 0
        self.scale, self.flip, self.num_sample = scale, flip, num_sample
        self.rand_augment, self.erasing, self.draws = rand_augment, erasing, draws

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def draw(self) -> int:
        """Which of the augmentations of each video is taken."""
        return self.epoch % self.draws if self.draws else self.epoch

    def facts(self, index: int) -> tuple[int, str, str]:
        """What item i gives besides its clips."""
        return self.samples[index].label, self.samples[index].name, ""

    def identity(self, index: int) -> str:
        """All that the clips of item i depend on."""
        drawn = (self.seed, self.draw, index, self.num_sample)
        how = (self.scale, self.flip, self.rand_augment, self.erasing)
        return f"{identity(self.samples[index])} {replace(self.form, views=(1, 1))} {drawn} {how}"

    def __getitem__(self, index: int) -> tuple[Tensor | None, int, str, str]:
        sample = self.samples[index]
        rng = np.random.default_rng((self.seed, self.draw, index))
        try:
            video = read_video(sample.path, sample.start, sample.end)
            frames = read_frames(video, lambda count: train_indices(count, self.form, rng))
        except DataError as error:
            return None, sample.label, sample.name, str(error)
        clips = torch.stack([self._augmented(frames, rng) for _ in range(self.num_sample)])
        return clips, sample.label, sample.name, ""

    def _augmented(self, frames: Frames, rng: np.random.Generator) -> Tensor:
        if self.rand_augment:
            frames = self.rand_augment(frames, rng)
        clip = normalise(random_crop(frames, self.form.size, self.scale, rng), self.form)
        if self.flip and rng.random() < 0.5:
            clip = clip.flip(-1)
        return erase(clip, self.erasing, rng) if self.erasing else clip


class TestViews(Dataset[tuple[Tensor | None, str]]):
    """All views of each video, or the reason why it cannot be decoded."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(self, samples: Sequence[Sample], form: ClipFormat, segments: int, crops: int) -> None:
        check_views(form, segments, crops)
        self.samples, self.form, self.segments, self.crops = samples, form, segments, crops

    def __len__(self) -> int:
        return len(self.samples)

    def facts(self, index: int) -> tuple[str]:
        """What item i gives besides its views."""
        return ("",)

    def identity(self, index: int) -> str:
        """All that the views of item i depend on."""
        form = replace(self.form, views=(self.segments, self.crops))
        return f"{identity(self.samples[index])} {form}"

    def __getitem__(self, index: int) -> tuple[Tensor | None, str]:
        sample = self.samples[index]
        try:
            video = read_video(sample.path, sample.start, sample.end)
            return read_views(video, self.form, self.segments, self.crops), ""
        except DataError as error:
            return None, str(error)
