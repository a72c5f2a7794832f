"""`Baseline`: the clip without content that an explanation compares a clip with."""

from typing import Literal

import torch
from torch import Tensor

Baseline = Literal["mean_colour", "median_frame"]
BASELINE_TEXTS = {"mean_colour": "the mean colour", "median_frame": "the median frame of the clip"}


def baseline_of(clip: Tensor, baseline: Baseline) -> Tensor:
    """A baseline of a clip, of its shape.

    "mean_colour" is the mean of the data that the backbone was pretrained on, in every pixel. It has neither
    objects nor motion. "median_frame" is the median over time of each pixel, in every frame. It has the
    objects that rest, without motion, so that an explanation shows the changes in the clip.

    Args:
        clip: (..., 3, frames, height, width), normalised.
        baseline: which one.
    """
    if baseline == "mean_colour":
        return torch.zeros_like(clip)
    return clip.median(dim=-3, keepdim=True).values.expand_as(clip).contiguous()
