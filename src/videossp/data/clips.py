"""Frames -> clip: which frames, which crop, normalised; and data sets of clips for the loops."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from videossp.data.augment import RandAugment, erase, random_crop
from videossp.data.datasets import Sample
from videossp.data.sampling import ClipFormat, check_views, eval_indices, train_indices
from videossp.data.video import Frames, Video, read_frames, read_video
from videossp.errors import DataError


def to_clip(frames: Frames, clip_format: ClipFormat, crop: int = 0, crops: int = 1) -> Tensor:
    """One test crop of decoded frames: resized to cover the format's size, cut out, normalised.

    With one crop the centre; with more, from one end of the longer side to the other.

    Args:
        frames: (time, height, width, 3) uint8.

    Returns:
        (3, time, height, width) float32.
    """
    height, width = clip_format.size
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
    return normalise(images[..., top : top + height, left : left + width].float() / 255, clip_format)


def normalise(images: Tensor, clip_format: ClipFormat) -> Tensor:
    """(time, 3, height, width) in [0, 1] to a clip, (3, time, height, width)."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (clip_format.mean, clip_format.std))
    return ((images - mean) / std).transpose(0, 1).contiguous()


def read_views(path: str | Video, clip_format: ClipFormat, segments: int = 1, crops: int = 1) -> Tensor:
    """All test views of a video, decoded once: (views, 3, frames, height, width), segment by segment."""
    check_views(clip_format, segments, crops)
    video = path if isinstance(path, Video) else read_video(path)
    indices = [i for k in range(segments) for i in eval_indices(len(video), clip_format, k, segments)]
    parts = np.split(read_frames(video, lambda _: indices), segments)
    return torch.stack([to_clip(part, clip_format, k, crops) for part in parts for k in range(crops)])


def video_identity(sample: Sample) -> str:
    """The content of a sample's video and which part of it: the same for a copy in another folder."""
    return f"{content_hash(Path(sample.path))} {sample.start} {sample.end}"


def content_hash(path: Path) -> str:
    """sha256 of a video file, or of the names and contents of the files in a folder of frames.

    A file is read again only if its size or time of change is not what it was.
    """
    try:
        folder = path.is_dir()
        files = sorted(x for x in path.iterdir() if x.is_file()) if folder else [path]
        state = [(str(x.absolute()), x.stat().st_size, x.stat().st_mtime_ns) for x in files]
        key = hashlib.sha256(repr(state).encode()).digest()
        if key not in _known_hashes:
            digest = hashlib.sha256()
            for file in files:
                digest.update(repr(file.name).encode() if folder else b"")
                with file.open("rb") as stream:
                    while block := stream.read(2**20):
                        digest.update(block)
            _known_hashes[key] = digest.hexdigest()
    except OSError as error:  # nothing can be computed of it; the decoder reports why
        return f"unreadable: {error.strerror}"
    return _known_hashes[key]


_known_hashes: dict[bytes, str] = {}  # by paths, sizes and times of change


class TrainClips(Dataset[tuple[Tensor | None, int, str, str]]):
    """Augmented clips of samples; one draw for all frames of a clip.

    What item i gives depends on (seed, epoch, i) alone, not on workers or order: (clips, label, name, "")
    with clips (num_sample, 3, frames, height, width), or (None, label, name, reason) for a video that
    cannot be decoded.

    Args:
        samples: labelled videos.
        clip_format: what a clip looks like.
        crop_scale: smallest and largest share of a frame's area that a random crop covers.
        flip: mirror half of the clips left to right.
        seed: of the whole run; set `epoch` before each pass.
        num_sample: clips of a video; they have the same frames, and augmentations of their own.
        rand_augment: applied to the whole frames first, or None.
        erasing: probability of random erasing, applied last.
        fixed_augmentations: augmentations of each video, used in turn by the epochs; 0: a new one each epoch.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        clip_format: ClipFormat,
        *,
        crop_scale: tuple[float, float],
        flip: bool,
        seed: int,
        num_sample: int = 1,
        rand_augment: RandAugment | None = None,
        erasing: float = 0.0,
        fixed_augmentations: int = 0,
    ) -> None:
        self.samples, self.clip_format, self.seed, self.epoch = samples, clip_format, seed, 0
        self.crop_scale, self.flip, self.num_sample = crop_scale, flip, num_sample
        self.rand_augment, self.erasing, self.fixed_augmentations = rand_augment, erasing, fixed_augmentations

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def draw(self) -> int:
        """Which of the augmentations of each video is taken."""
        return self.epoch % self.fixed_augmentations if self.fixed_augmentations else self.epoch

    def facts(self, index: int) -> tuple[int, str, str]:
        """What item i gives besides its clips."""
        return self.samples[index].label, self.samples[index].name, ""

    def identity(self, index: int, video: Callable[[Sample], str] = video_identity) -> str:
        """Everything that the clips of item i depend on; `video` names the video of a sample."""
        drawn = (self.seed, self.draw, index, self.num_sample)
        how = (self.crop_scale, self.flip, self.rand_augment, self.erasing)
        return f"{video(self.samples[index])} {replace(self.clip_format, views=(1, 1))} {drawn} {how}"

    def __getitem__(self, index: int) -> tuple[Tensor | None, int, str, str]:
        sample = self.samples[index]
        rng = np.random.default_rng((self.seed, self.draw, index))
        try:
            video = read_video(sample.path, sample.start, sample.end)
            frames = read_frames(video, lambda count: train_indices(count, self.clip_format, rng))
        except DataError as error:
            return None, sample.label, sample.name, str(error)
        clips = torch.stack([self._augmented(frames, rng) for _ in range(self.num_sample)])
        return clips, sample.label, sample.name, ""

    def _augmented(self, frames: Frames, rng: np.random.Generator) -> Tensor:
        if self.rand_augment:
            frames = self.rand_augment(frames, rng)
        clip = normalise(random_crop(frames, self.clip_format.size, self.crop_scale, rng), self.clip_format)
        if self.flip and rng.random() < 0.5:
            clip = clip.flip(-1)
        return erase(clip, self.erasing, rng) if self.erasing else clip


class EvalViews(Dataset[tuple[Tensor | None, str]]):
    """All views of each video, or the reason why it cannot be decoded."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(self, samples: Sequence[Sample], clip_format: ClipFormat, segments: int, crops: int) -> None:
        check_views(clip_format, segments, crops)
        self.samples, self.clip_format, self.segments, self.crops = samples, clip_format, segments, crops

    def __len__(self) -> int:
        return len(self.samples)

    def facts(self, index: int) -> tuple[str]:
        """What item i gives besides its views."""
        return ("",)

    def identity(self, index: int, video: Callable[[Sample], str] = video_identity) -> str:
        """Everything that the views of item i depend on; `video` names the video of a sample."""
        clip_format = replace(self.clip_format, views=(self.segments, self.crops))
        return f"{video(self.samples[index])} {clip_format}"

    def __getitem__(self, index: int) -> tuple[Tensor | None, str]:
        sample = self.samples[index]
        try:
            video = read_video(sample.path, sample.start, sample.end)
            return read_views(video, self.clip_format, self.segments, self.crops), ""
        except DataError as error:
            return None, str(error)
