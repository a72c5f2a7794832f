"""`Float32Conv3d`: a 3-D convolution that autocast leaves in float32."""

from typing import Any

import torch
from torch import Tensor, nn


class Float32Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`, always in float32.

    In bfloat16 on a CPU, torch 2.13 computes 3-D convolutions wrongly if one side of the volume is 1: the
    output is NaN or, worse, a wrong number.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())

    def __call__(self, *args: Any) -> Tensor:
        """As `forward`."""
        return super().__call__(*args)  # type: ignore[no-any-return]
