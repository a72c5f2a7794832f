"""Affix-tuning: learned inputs in front of each scan (MambaPEFT, ICLR 2025, arXiv 2411.03855)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.model.config import ProjectionName, VideoMambaConfig
from videossp.model.hooks import Tuner


class Affix(Tuner):
    """Each direction first runs over `length` learned inputs of its own; their outputs are removed.

    They pass the convolution, x_proj, dt_proj and the scan, and so set the state in which it meets the
    sequence. The published code learns their gate too, which acts on nothing but the outputs removed, and so
    counts twice as many parameters; here it is zero.

    Args:
        config: sizes of the backbone.
        length: learned inputs of a direction.
        start: normal as published, or zero.
    """

    resizes = True
    not_merged = "its inputs run through the scan"

    def __init__(
        self, config: VideoMambaConfig, *, length: int = 3, start: Literal["normal", "zero"] = "normal"
    ) -> None:
        super().__init__()
        if length < 1 or start not in ("normal", "zero"):
            raise ValueError("length must be at least 1, start normal or zero")
        self.length = length
        values = torch.randn if start == "normal" else torch.zeros
        self.inputs = nn.Parameter(values(config.depth, 2, length, config.d_inner))

    def edit_projection(self, layer: int, name: ProjectionName, x: Tensor, y: Tensor) -> Tensor:
        if name == "in_proj":
            # The backward direction starts at the end; neither sees the other's before its own is done.
            both = F.pad(self.inputs[layer], (0, y.shape[-1] - self.inputs.shape[-1])).to(y.dtype)
            front, back = (part.expand(len(y), -1, -1) for part in both)
            return torch.cat([front, y, back], dim=1)
        if name == "out_proj":
            return y[:, self.length : -self.length]
        return y
