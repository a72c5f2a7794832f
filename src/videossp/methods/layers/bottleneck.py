"""`Bottleneck`: down, a depthwise convolution, up, as in the gathering of SSP and in ST-Adapter."""

import torch
from torch import Tensor, nn

from videossp.methods.layers.depthwise import Depthwise
from videossp.ops.matmul import Linear


class Bottleneck(nn.Module):
    """up(conv(down(x))) of patch tokens, without an activation. Convolution and output start at zero.

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
        """Output and code, conv(down(x)), of tokens (batch, frames, patches, d_model) on a grid.

        Returns:
            The output, in the shape of x, and the code, (batch, frames, patches, width).
        """
        code = self.down(x) if self.folded else self.conv(self.down(x), grid)
        return self.up(code), code

    @torch.no_grad()
    def fold(self) -> bool:
        """Fold the convolution into `down`, if its kernel is 1 x 1 x 1; whether it is folded now."""
        if self.folded or self.conv.kernel_size != (1, 1, 1):
            return self.folded
        gain = self.conv.weight.flatten()
        self.down.weight.mul_(gain[:, None])
        self.down.bias.mul_(gain).add_(self.conv.bias)  # type: ignore[arg-type]
        self.folded = True
        return True

    @torch.no_grad()
    def one_product(self) -> Linear | None:
        """`down` and `up` of a folded bottleneck as one layer; None if that would be more work."""
        if 2 * self.down.out_features <= self.down.in_features:
            return None
        one = Linear(self.down.in_features, self.up.out_features)
        one.weight.copy_(self.up.weight @ self.down.weight)
        one.bias.copy_(self.up.weight @ self.down.bias + self.up.bias)
        return one
