"""Mixup (Zhang et al. 2018), CutMix (Yun et al. 2019) and the soft targets that they need."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def soft_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Labels (batch,) to targets (batch, classes) with label smoothing; each row has sum 1."""
    return F.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes


def mix(
    clips: Tensor, targets: Tensor, mixup: float, cutmix: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Mix a batch with itself in reverse order, by Mixup or CutMix, with one draw for the batch.

    Mixup adds the weighted clips. CutMix takes one box, the same in all clips and frames, from the other
    clip. If both are on, each is used with probability 1/2.

    Args:
        clips: (batch, 3, time, height, width).
        targets: (batch, classes) float.
        mixup, cutmix: alpha of the Beta distribution of a clip's own weight; 0: off.

    Returns:
        Clips and targets of the same shapes.
    """
    if not mixup and not cutmix:
        return clips, targets
    boxed = cutmix > 0 and (mixup == 0 or rng.random() < 0.5)
    alpha = cutmix if boxed else mixup
    weight = rng.beta(alpha, alpha)
    if boxed:
        size = np.array(clips.shape[-2:])
        cut = np.rint(size * (1 - weight) ** 0.5).astype(int)
        first = rng.integers(size) - cut // 2
        (top, left), (bottom, right) = np.clip([first, first + cut], 0, size)
        mixed = clips.clone()
        mixed[..., top:bottom, left:right] = clips[..., top:bottom, left:right].flip(0)
        weight = 1 - float((bottom - top) * (right - left) / size.prod())  # the border may cut the box
    else:
        mixed = torch.lerp(clips.flip(0), clips, weight)
    return mixed, torch.lerp(targets.flip(0), targets, weight)
