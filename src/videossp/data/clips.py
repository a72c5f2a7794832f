"""Data sets of clips: augmented clips for training, all views of a video for evaluation."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from videossp.data.augment import RandAugment, erase
from videossp.data.crop import normalise, random_crop, to_clip
from videossp.data.datasets import Sample
from videossp.data.sampling import ClipFormat, check_views, eval_indices, train_indices
from videossp.data.video import Frames, Video, read_frames, read_video
from videossp.errors import DataError


def read_views(
    path: str | Video, clip_format: ClipFormat, segments: int = 1, crops: int = 1, *, raw: bool = False
) -> Tensor:
    """All views of a video for a test, decoded once: (views, 3, frames, height, width).

    The crops of the first segment come first, then those of the second, and so on.

    Args:
        path: of the video, or the opened video.
        clip_format: frames and size of a clip.
        segments, crops: clips of different frames, and crops of each.
        raw: uint8 views, a quarter of the memory, which `Classifier.probabilities` normalises on its device;
            else normalised float32 views.
    """
    check_views(clip_format, segments, crops)
    video = path if isinstance(path, Video) else read_video(path)
    indices = [i for k in range(segments) for i in eval_indices(len(video), clip_format, k, segments)]
    parts = np.split(read_frames(video, lambda _: indices), segments)
    return torch.stack(
        [to_clip(part, clip_format, k, crops, raw=raw) for part in parts for k in range(crops)]
    )


def video_identity(sample: Sample) -> str:
    """The content of a sample's video and which part of it: the same for a copy in another folder."""
    frames = "" if sample.frames is None else f" frames {sample.frames}"
    return f"{content_hash(Path(sample.path))} {sample.start} {sample.end}{frames}"


def content_hash(path: Path) -> str:
    """sha256 of a video file, or of the names and contents of the files in a folder of frames.

    A file is read again only if its size or time of change is not what it was.
    """
    try:
        key = content_state(path)
        if key not in _known_hashes:
            digest = hashlib.sha256()
            for file in _files_of(path):
                digest.update(repr(file.name).encode() if path.is_dir() else b"")
                with file.open("rb") as stream:
                    while block := stream.read(2**20):
                        digest.update(block)
            _known_hashes[key] = digest.hexdigest()
    except OSError as error:  # nothing can be computed of it; the decoder reports why
        return f"unreadable: {error.strerror}"
    return _known_hashes[key]


def content_state(path: Path) -> str:
    """A hash of the place, sizes and times of change of a video's files: if it changes, the content may have.

    Raises:
        OSError: a file cannot be found.
    """
    state = [(str(x.absolute()), x.stat().st_size, x.stat().st_mtime_ns) for x in _files_of(path)]
    return hashlib.sha256(repr(state).encode()).hexdigest()


def _files_of(path: Path) -> list[Path]:
    return sorted(x for x in path.iterdir() if x.is_file()) if path.is_dir() else [path]


_known_hashes: dict[str, str] = {}  # by paths, sizes and times of change


class Unfinished(NamedTuple):
    """Cropped clips of a video that are still to be normalised and mirrored (`crop.finish_clips`).

    Attributes:
        images: (clips, frames, 3, height, width) in [0, 1].
        flipped: (clips,) bool, whether to mirror each clip.
    """

    images: Tensor
    flipped: Tensor


class TrainClips(Dataset[tuple[Tensor | Unfinished | None, int, str, str]]):
    """Augmented training clips of labelled videos, with the same augmentation for all frames of a clip.

    Item i is (clips, label, name, "") with clips (num_sample, 3, frames, height, width), or
    (None, label, name, reason) if the video cannot be decoded. It depends on (seed, epoch, i) only, not on
    the worker process or the order of access; item i + k * len(samples) is the same video with another
    augmentation. Set `epoch` before each pass. If `unfinished` is set, clips are
    `Unfinished`, so that a GPU can do the rest; without erasing the finished clips are the same.

    Args:
        samples: labelled videos.
        clip_format: frames and size of a clip.
        crop_scale: smallest and largest fraction of a frame's area that a random crop covers.
        flip: flip half of the clips horizontally.
        seed: seed of the run.
        num_sample: clips per video; they have the same frames but different augmentations.
        rand_augment: applied first, to full frames; or None.
        erasing: probability of random erasing, applied last.
        fixed_augmentations: number of augmentations per video, which the epochs use in turn; 0: a new one in
            each epoch.
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
        self.unfinished = False

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def draw(self) -> int:
        """Number of the augmentation that this epoch uses."""
        return self.epoch % self.fixed_augmentations if self.fixed_augmentations else self.epoch

    def metadata(self, index: int) -> tuple[int, str, str]:
        """Item i without its clips: (label, name, "")."""
        return self.samples[index].label, self.samples[index].name, ""

    def identity(self, index: int, video: Callable[[Sample], str] = video_identity) -> str:
        """Everything that the clips of item i depend on; `video` names the video of a sample."""
        drawn = (self.seed, self.draw, index, self.num_sample)
        how = (self.crop_scale, self.flip, self.rand_augment, self.erasing)
        return f"{video(self.samples[index])} {replace(self.clip_format, views=(1, 1))} {drawn} {how}"

    def __getitem__(self, index: int) -> tuple[Tensor | Unfinished | None, int, str, str]:
        sample = self.samples[index % len(self.samples)]
        rng = np.random.default_rng((self.seed, self.draw, index))
        try:
            video = read_video(sample.path, sample.start, sample.end, frames=sample.frames)
            frames = read_frames(video, lambda count: train_indices(count, self.clip_format, rng))
        except DataError as error:
            return None, sample.label, sample.name, str(error)
        if self.unfinished:
            images, flipped = zip(*(self._cropped(frames, rng) for _ in range(self.num_sample)), strict=True)
            return Unfinished(torch.stack(images), torch.tensor(flipped)), sample.label, sample.name, ""
        clips = torch.stack([self._augmented(frames, rng) for _ in range(self.num_sample)])
        return clips, sample.label, sample.name, ""

    def _cropped(self, frames: Frames, rng: np.random.Generator) -> tuple[Tensor, bool]:
        """A random crop, (frames, 3, height, width) in [0, 1], and whether to mirror it."""
        if self.rand_augment:
            frames = self.rand_augment(frames, rng)
        images = random_crop(frames, self.clip_format.size, self.crop_scale, rng)
        return images, self.flip and rng.random() < 0.5

    def _augmented(self, frames: Frames, rng: np.random.Generator) -> Tensor:
        images, flipped = self._cropped(frames, rng)
        clip = normalise(images, self.clip_format)
        if flipped:
            clip = clip.flip(-1)
        return erase(clip, self.erasing, rng) if self.erasing else clip


class EvalViews(Dataset[tuple[Tensor | None, str]]):
    """All views of each video.

    Item i is (views, "") with views (segments x crops, 3, frames, height, width), or (None, reason) if the
    video cannot be decoded.

    Args:
        samples: labelled videos.
        clip_format: frames and size of a clip.
        segments: clips of different frames per video.
        crops: crops per segment.
        raw: uint8 views, see `read_views`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        clip_format: ClipFormat,
        segments: int,
        crops: int,
        *,
        raw: bool = False,
    ) -> None:
        check_views(clip_format, segments, crops)
        self.samples, self.clip_format, self.segments, self.crops = samples, clip_format, segments, crops
        self.raw = raw

    def __len__(self) -> int:
        return len(self.samples)

    def metadata(self, index: int) -> tuple[str]:
        """Item i without its views."""
        return ("",)

    def identity(self, index: int, video: Callable[[Sample], str] = video_identity) -> str:
        """Everything that the views of item i depend on; `video` names the video of a sample."""
        clip_format = replace(self.clip_format, views=(self.segments, self.crops))
        return f"{video(self.samples[index])} {clip_format}"

    def __getitem__(self, index: int) -> tuple[Tensor | None, str]:
        sample = self.samples[index]
        try:
            video = read_video(sample.path, sample.start, sample.end, frames=sample.frames)
            return read_views(video, self.clip_format, self.segments, self.crops, raw=self.raw), ""
        except DataError as error:
            return None, str(error)
