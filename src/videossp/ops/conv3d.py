"""Convolutions over time, rows and columns: `Conv3d`, in float32, and `SameConv3d`, of few channels."""

from typing import Any

import torch
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """torch's layer, which autocast leaves in float32.

    torch 2.13 convolves bfloat16 in 3-D wrongly on a CPU where a side of the volume is 1: NaN, or worse,
    numbers.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())

    def __call__(self, *args: Any) -> Tensor:
        """As `forward`."""
        return super().__call__(*args)  # type: ignore[no-any-return]
