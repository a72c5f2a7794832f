"""From decoded frames to a crop of the clip's size: centred or at the ends for tests, random for training."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.data.sampling import ClipFormat
from videossp.data.video import Frames

Span = tuple[float, float]


def to_clip(
    frames: Frames, clip_format: ClipFormat, crop: int = 0, crops: int = 1, *, raw: bool = False
) -> Tensor:
    """A test crop: resize the frames so that they cover the clip's size, cut the crop out, normalise.

    One crop is the centre; several go from one end of the longer side to the other.

    Args:
        frames: (time, height, width, 3) uint8.
        crop, crops: number of this crop, from 0, and how many there are.
        raw: leave out the last step: `normalise_views` does it, with the same digits.

    Returns:
        (3, time, height, width) float32; raw: uint8.
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
    cut = images[..., top : top + height, left : left + width]
    return cut.transpose(0, 1).contiguous() if raw else normalise(cut.float() / 255, clip_format)


def normalise(images: Tensor, clip_format: ClipFormat) -> Tensor:
    """(time, 3, height, width) in [0, 1] to a normalised clip, (3, time, height, width)."""
    mean, std = (torch.tensor(x)[:, None, None] for x in (clip_format.mean, clip_format.std))
    return ((images - mean) / std).transpose(0, 1).contiguous()


def normalise_views(views: Tensor, clip_format: ClipFormat) -> Tensor:
    """Normalise raw views of `to_clip` on their device, to the digits that it computes without `raw`.

    Args:
        views: (..., 3, time, height, width) uint8.

    Returns:
        The same shape, float32.
    """
    mean, std = (filled(x, views.device)[:, None, None, None] for x in (clip_format.mean, clip_format.std))
    # A tensor also as the divisor: CUDA multiplies by the reciprocal of a number, which rounds differently.
    return (views.float() / filled((255,), views.device)).sub_(mean).div_(std)


def finish_clips(images: Tensor, flipped: Tensor, clip_format: ClipFormat) -> Tensor:
    """Normalise a batch of clips on their device and mirror some of them, to the digits of a CPU.

    Args:
        images: (clips, time, 3, height, width) in [0, 1].
        flipped: (clips,) bool.

    Returns:
        (clips, 3, time, height, width).
    """
    mean, std = (filled(x, images.device)[:, None, None] for x in (clip_format.mean, clip_format.std))
    clips = ((images - mean) / std).transpose(1, 2)
    return torch.where(flipped[:, None, None, None, None], clips.flip(-1), clips).contiguous()


def filled(values: Sequence[float], device: torch.device) -> Tensor:
    """Numbers as a tensor that is filled on the device. A copy from the CPU would wait for the device."""
    return torch.stack([torch.full((), x, device=device, dtype=torch.float32) for x in values])


def random_crop(
    frames: Frames, size: tuple[int, int], scale: Span, rng: np.random.Generator, ratio: Span = (3 / 4, 4 / 3)
) -> Tensor:
    """Cut one random box out of all frames and resize it, with antialiasing as in tests.

    This is the random resized crop of Inception (Szegedy et al. 2015). If ten draws do not fit into the
    frame, the box is the largest centred one with the aspect ratio of `size`.

    Args:
        frames: (time, height, width, 3) uint8.
        size: (height, width) of the result.
        scale: smallest and largest fraction of the frame's area.
        ratio: smallest and largest aspect ratio, width / height.

    Returns:
        (time, 3, *size) float32 in [0, 1].
    """
    rows, columns = frames.shape[1:3]
    box = random_box(rows, columns, scale, ratio, rng)
    if box is None:
        shrink = min(rows / size[0], columns / size[1])
        height, width = max(1, int(size[0] * shrink)), max(1, int(size[1] * shrink))
        box = (rows - height) // 2, (columns - width) // 2, height, width
    top, left, height, width = box
    images = torch.from_numpy(frames[:, top : top + height, left : left + width]).permute(0, 3, 1, 2)
    return F.interpolate(images.float() / 255, size, mode="bilinear", antialias=True)


def random_box(
    rows: int, columns: int, scale: Span, ratio: Span, rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of a random box in a frame; None if ten draws do not fit.

    Args:
        scale, ratio: see `random_crop`.
    """
    for _ in range(10):
        area = rows * columns * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
        height, width = round((area / aspect) ** 0.5), round((area * aspect) ** 0.5)
        if 0 < height <= rows and 0 < width <= columns:
            return int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1)), height, width
    return None
