"""`Depthwise`: a depthwise convolution over frames, rows and columns of patch tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.ops.float32_conv import Float32Conv3d


class Depthwise(Float32Conv3d):
    """Depthwise 3-D convolution with "same" padding. Weights and bias start at zero.

    Args:
        channels: width of the tokens.
        kernel: (time, rows, columns).
    """

    def __init__(self, channels: int, kernel: tuple[int, int, int]) -> None:
        sides = (kernel,) * 3 if isinstance(kernel, int) else kernel
        odd = all(side % 2 for side in sides)
        super().__init__(channels, channels, sides, padding="same" if odd else 0, groups=channels)
        # torch warns if its "same" padding is given an even side. So pad here, as torch does.
        around = [((side - 1) // 2, side // 2) for side in reversed(sides)]
        self.around = [] if odd else [x for pair in around for x in pair]
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:  # type: ignore[override]
        """Apply the layer.

        Args:
            x: (batch, frames, patches, channels).
            grid: rows and columns of the patches.

        Returns:
            (batch, frames, patches, channels), in the dtype of x.
        """
        if self.kernel_size == (1, 1, 1):  # a gain and a shift per channel: many times faster than convolving
            return torch.addcmul(self.bias, x, self.weight.flatten())  # type: ignore[arg-type]
        volume = x.unflatten(2, grid).permute(0, 4, 1, 2, 3)
        volume = super().forward(F.pad(volume, self.around) if self.around else volume)
        return volume.flatten(3).permute(0, 2, 3, 1).to(x.dtype)
