"""`SameConv3d`: a 3-D convolution of few channels, computed in 2-D."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SameConv3d(nn.Module):
    """A 3-D convolution with "same" padding, for few channels and large kernels.

    The frames that a kernel covers become channels of a 2-D convolution. On a CPU, the backward of torch's
    3-D convolution takes several times as long, and its bfloat16 output is wrong (see `Float32Conv3d`).

    Args:
        channels: input channels.
        out: output channels.
        kernel: (time, rows, columns), all odd.

    Attributes:
        weight: (out, channels, *kernel), initialised as in `torch.nn.Conv3d`.
        bias: (out,), the same.
    """

    def __init__(self, channels: int, out: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        layer = nn.Conv3d(channels, out, kernel)
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, frames, height, width) to (batch, out, frames, height, width)."""
        batch, frames, taps = x.shape[0], x.shape[2], self.weight.shape[2]
        padded = F.pad(x, (0, 0, 0, 0, taps // 2, taps // 2))
        windows = torch.cat([padded[:, :, i : i + frames] for i in range(taps)], dim=1)
        images = windows.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        weight = self.weight.transpose(1, 2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        out: Tensor = F.conv2d(images, weight, self.bias, padding="same").unflatten(0, (batch, frames))
        return out.transpose(1, 2)
