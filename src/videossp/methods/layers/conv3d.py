"""`SameConv3d`: a convolution of few channels over frames, rows and columns."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SameConv3d(nn.Module):
    """A 3-D convolution that keeps the size of its volume, for few channels and large kernels.

    It is computed as a 2-D convolution whose channels are those of all frames that the kernel spans. The 3-D
    convolution of torch has a backward several times slower on a CPU, and is wrong in bfloat16 (`Conv3d`).

    Args:
        channels, out: channels of input and output.
        kernel: (time, rows, columns), odd.

    Attributes:
        weight: (out, channels, *kernel), with the initial values of `nn.Conv3d`.
        bias: (out,), likewise.
    """

    def __init__(self, channels: int, out: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        initial = nn.Conv3d(channels, out, kernel)
        self.weight, self.bias = initial.weight, initial.bias

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, frames, height, width) to (batch, out, frames, height, width)."""
        batch, frames, taps = len(x), x.shape[2], self.weight.shape[2]
        padded = F.pad(x, (0, 0, 0, 0, taps // 2, taps // 2))
        spanned = torch.cat([padded[:, :, i : i + frames] for i in range(taps)], dim=1)
        images = spanned.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        weight = self.weight.transpose(1, 2).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        out: Tensor = F.conv2d(images, weight, self.bias, padding="same").unflatten(0, (batch, frames))
        return out.transpose(1, 2)
