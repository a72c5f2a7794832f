"""Affix-tuning: learned inputs in front of each scan (MambaPEFT, ICLR 2025, arXiv 2411.03855)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.check_sizes import check_size
from videossp.model.config import ProjectionName, VideoMambaConfig
from videossp.model.hooks import Tuner


class Affix(Tuner):
    """Puts `length` learned inputs in front of the sequence of each scan, and removes their outputs.

    The inputs pass through the convolution, x_proj, dt_proj and the scan. They set the state with which the
    scan enters the sequence. Each direction has its own inputs. The published code also learns gates for the
    inputs. These double the parameters but act only on the removed outputs; here they are zero.

    Args:
        config: sizes of the backbone.
        length: learned inputs per direction.
        start: initial values: normal (published) or zero.
    """

    resizes = True
    not_merged = "its inputs pass through the scans"

    def __init__(
        self, config: VideoMambaConfig, *, length: int = 3, start: Literal["normal", "zero"] = "normal"
    ) -> None:
        super().__init__()
        check_size("length", length)
        if start not in ("normal", "zero"):
            raise ValueError(f"start must be normal or zero, got {start!r}")
        self.length = length
        values = torch.randn if start == "normal" else torch.zeros
        self.inputs = nn.Parameter(values(config.depth, 2, length, config.d_inner))

    def edit_projection(self, layer: int, name: ProjectionName, x: Tensor, y: Tensor) -> Tensor:
        if name == "in_proj":
            # The backward scan starts at the end of the sequence. Each scan reaches the inputs of the other
            # only after the sequence, where they affect no output that is kept.
            inputs_and_gates = F.pad(self.inputs[layer], (0, y.shape[-1] - self.inputs.shape[-1])).to(y.dtype)
            front, back = (inputs.expand(y.shape[0], -1, -1) for inputs in inputs_and_gates)
            return torch.cat([front, y, back], dim=1)
        if name == "out_proj":
            return y[:, self.length : -self.length]
        return y
