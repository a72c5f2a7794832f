"""`SameConv3d`: convolutions of few channels over frames, rows and columns."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SameConv3d(nn.Module):
    """A convolution that keeps the size of its volume, for few channels and large kernels.

    The frames that a kernel spans become channels of a convolution in 2-D. torch's own in 3-D takes several
    times as long on a CPU in the backward, and is wrong in bfloat16 (see `Conv3d`).

    Args:
        channels, out: before and after.
        kernel: (time, rows, columns), odd.

    Attributes:
        weight: (out, channels, *kernel), and bias (out,), drawn as torch's layer draws them.
    """

    def __init__(self, channels: int, out: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        drawn = nn.Conv3d(channels, out, kernel)
        self.weight, self.bias = drawn.weight, drawn.bias

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, frames, height, width) to (batch, out, frames, height, width)."""
        batch, frames, taps = len(x), x.shape[2], self.weight.shape[2]
        padded = F.pad(x, (0, 0, 0, 0, taps // 2, taps // 2))
        spanned = torch.cat([padded[:, :, i : i + frames] for i in range(taps)], dim=1)
        images = spanned.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        weight = self.weight.transpose(1, 2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        out: Tensor = F.conv2d(images, weight, self.bias, padding="same").unflatten(0, (batch, frames))
        return out.transpose(1, 2)
