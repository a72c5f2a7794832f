"""`Conv3d`: torch's layer, always in float32."""

from typing import Any

import torch
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """A convolution over time, rows and columns that autocast leaves in float32.

    torch 2.13 convolves bfloat16 wrongly on a CPU where a side of the volume is 1: NaN, or worse, numbers.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())

    def __call__(self, *args: Any) -> Tensor:
        """As `forward`."""
        return super().__call__(*args)  # type: ignore[no-any-return]
