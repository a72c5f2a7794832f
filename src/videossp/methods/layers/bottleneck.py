"""`Bottleneck`: down, depthwise convolution, up. SSP's gathering and ST-Adapter use it."""

import torch
from torch import Tensor, nn

from videossp.methods.layers.depthwise import Depthwise
from videossp.ops.matmul import Linear


class Bottleneck(nn.Module):
    """up(conv(down(x))) of patch tokens, without an activation. The convolution and all biases start at zero.

    Args:
        d_model: width of the tokens.
        width: width between down and up.
        kernel: (time, rows, columns) of the convolution.
    """

    def __init__(self, d_model: int, width: int, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.down, self.up = Linear(d_model, width), Linear(width, d_model)
        self.conv = Depthwise(width, kernel)
        for linear in (self.down, self.up):
            nn.init.zeros_(linear.bias)
        self.folded = False

    def forward(self, x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Apply the layer.

        Args:
            x: (batch, frames, patches, d_model).
            grid: rows and columns of the patches.

        Returns:
            (batch, frames, patches, d_model), and the input of `up` (batch, frames, patches, width).
        """
        code = self.down(x) if self.folded else self.conv(self.down(x), grid)
        return self.up(code), code

    @torch.no_grad()
    def fold(self) -> bool:
        """Fold a convolution with kernel (1, 1, 1) into `down`. Returns False if its kernel is larger."""
        if self.folded or self.conv.kernel_size != (1, 1, 1):
            return self.folded
        gain = self.conv.weight.flatten()
        self.down.weight.mul_(gain[:, None])
        self.down.bias.mul_(gain).add_(self.conv.bias)  # type: ignore[arg-type]
        self.folded = True
        return True

    @torch.no_grad()
    def one_product(self) -> Linear | None:
        """`down` and `up` of a folded bottleneck as one layer; None if that is more work."""
        if 2 * self.down.out_features <= self.down.in_features:
            return None
        one = Linear(self.down.in_features, self.up.out_features, device=self.down.weight.device)
        one.weight.copy_(self.up.weight @ self.down.weight)
        one.bias.copy_(self.up.weight @ self.down.bias + self.up.bias)
        return one
