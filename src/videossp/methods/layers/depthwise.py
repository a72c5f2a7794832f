"""`Depthwise`: a depthwise convolution over frames, rows and columns of patch tokens."""

import torch
from torch import Tensor, nn

from videossp.ops.conv3d import Conv3d


class Depthwise(Conv3d):
    """Depthwise convolution that keeps the grid. Weights and biases start at zero.

    Args:
        channels: width of the tokens.
        kernel: (time, rows, columns).
    """

    def __init__(self, channels: int, kernel: tuple[int, int, int]) -> None:
        super().__init__(channels, channels, kernel, padding="same", groups=channels)
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:  # type: ignore[override]
        """Tokens (batch, frames, patches, channels) on a grid (rows, columns) to the same shape."""
        if self.kernel_size == (1, 1, 1):  # a gain and a shift per channel; many times faster
            return torch.addcmul(self.bias, x, self.weight.flatten())  # type: ignore[arg-type]
        volume = super().forward(x.unflatten(2, grid).permute(0, 4, 1, 2, 3))
        return volume.flatten(3).permute(0, 2, 3, 1).to(x.dtype)
