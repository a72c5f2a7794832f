"""`ExplainedClip`: the clip of a video as the model reads it, as it is shown, and the times of its frames."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from videossp.data.clips import read_views
from videossp.data.crop import normalise_views
from videossp.data.sampling import ClipFormat, eval_indices
from videossp.data.video import Video, read_video
from videossp.data.video.remote import local_copy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from videossp.classifier import Classifier

Explained = str | bytes | os.PathLike[str] | Video | Tensor


@dataclass(frozen=True, eq=False)
class ExplainedClip:
    """One clip of a video: that of one segment, cut from the centre.

    Attributes:
        clip: (3, frames, height, width), normalised, on the CPU.
        pixels: (frames, height, width, 3) uint8.
        path: of the video; None for a clip that was given as a tensor.
        seconds: time of each frame from the first frame of the file; None if it is not known.
    """

    clip: Tensor
    pixels: "NDArray[np.uint8]"
    path: str | None = None
    seconds: tuple[float, ...] | None = None


def read_clip(classifier: "Classifier", video: Explained) -> ExplainedClip:
    """The clip of a path, a URI or an opened video; or a clip as a tensor, normalised or uint8.

    Raises:
        ValueError: the tensor is no clip of the classifier.
        DataError: the video cannot be decoded.
    """
    form = classifier.clip_format
    if isinstance(video, Tensor):
        return _of_tensor(classifier, video)
    if isinstance(video, Video):
        return _of_video(video, form, str(video.path))
    name = os.fsdecode(video)
    with local_copy(name) as path:
        return _of_video(read_video(path), form, name)


def _of_video(video: Video, form: ClipFormat, name: str) -> ExplainedClip:
    raw = read_views(video, form, raw=True)[0]
    times = [video.time_of(i) for i in eval_indices(len(video), form)]
    known = tuple(x for x in times if x is not None)
    return ExplainedClip(normalise_views(raw, form), _pixels(raw), name, known or None)


def _of_tensor(classifier: "Classifier", given: Tensor) -> ExplainedClip:
    clip = given.detach().cpu().clone()  # also a tensor of torch.inference_mode, which has no gradients
    form, config = classifier.clip_format, classifier.backbone.config
    expected = (3, config.frames, *config.size)
    if tuple(clip.shape) != expected:
        raise ValueError(
            f"a clip to explain must be (3, frames, height, width) = {expected}, got {tuple(clip.shape)}"
        )
    if clip.dtype == torch.uint8:
        return ExplainedClip(normalise_views(clip, form), _pixels(clip))
    if not clip.is_floating_point():
        raise ValueError(f"a clip to explain must be uint8 pixels or normalised floats, got {clip.dtype}")
    if not clip.isfinite().all():
        raise ValueError("the clip to explain has values that are not finite")
    mean, std = (torch.tensor(x)[:, None, None, None] for x in (form.mean, form.std))
    shown = (255 * (clip * std + mean)).round().clamp(0, 255).to(torch.uint8)
    return ExplainedClip(clip.float(), _pixels(shown))


def _pixels(raw: Tensor) -> "NDArray[np.uint8]":
    """(3, frames, height, width) uint8 as (frames, height, width, 3)."""
    found: NDArray[np.uint8] = raw.permute(1, 2, 3, 0).contiguous().numpy()
    return found
