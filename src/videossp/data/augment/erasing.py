"""Random erasing (Zhong et al. 2020)."""

import numpy as np
import torch
from torch import Tensor

from videossp.data.crop import random_box


def erase(clip: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """With the given probability, replace one box of a clip by noise from N(0, 1).

    The box is the same in all frames; each value gets its own noise. The box covers a fraction of 0.02 to 1/3
    of the frame, with an aspect ratio of 0.3 to 1 / 0.3. If ten draws do not fit into the frame, nothing is
    erased.

    Args:
        clip: (3, time, height, width), normalised; it is not changed.
    """
    channels, time, rows, columns = clip.shape
    clip, hit = clip.clone(), rng.random() < probability
    if hit and (box := random_box(rows, columns, (0.02, 1 / 3), (0.3, 1 / 0.3), rng)):
        top, left, height, width = box
        noise = rng.standard_normal((channels, time, height, width), np.float32)
        clip[..., top : top + height, left : left + width] = torch.from_numpy(noise)
    return clip
