"""`Baseline`: the clip without content that an explanation compares a clip with."""

from typing import Literal

import torch
from torch import Tensor

Single = Literal["mean_colour", "median_frame"]
Baseline = Literal["mean_colour", "median_frame", "both"]
BASELINE_TEXTS = {
    "mean_colour": "the mean colour",
    "median_frame": "the median frame of the clip",
    "both": "the mean colour and the median frame (mean of both)",
}


def baseline_of(clip: Tensor, baseline: Single) -> Tensor:
    """A baseline of a clip, of its shape.

    "mean_colour" is the mean of the data that the backbone was pretrained on, in every pixel. It has neither
    objects nor motion. "median_frame" is the median over time of each pixel, in every frame. It has the
    objects that rest, without motion, so that an explanation shows the changes in the clip. For an even
    number of frames it is the lower one of the two middle values, which is a value of the clip.

    Args:
        clip: (..., 3, frames, height, width), normalised.
        baseline: which one.
    """
    if baseline == "mean_colour":
        return torch.zeros_like(clip)
    return clip.median(dim=-3, keepdim=True).values.expand_as(clip).contiguous()


def singles(baseline: Baseline) -> tuple[Single, ...]:
    """The baselines whose maps are averaged; the last one replaces the frames of the curve."""
    return ("mean_colour", "median_frame") if baseline == "both" else (baseline,)
