"""`Float32Conv3d`: a 3-D convolution that autocast leaves in float32."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.ops.exact_float32 import exact_float32, may_use_tf32


class _ExactConv3d(torch.autograd.Function):
    """`F.conv3d`, forward and backward without TF32: autograd's own backward would read torch's settings."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        rest: tuple[Any, int],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biases = None if bias is None else list(bias.shape)
        ctx.geometry = stride, padding, *rest
        with exact_float32(x.device):
            return F.conv3d(x, weight, bias, stride, padding, *rest)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        wanted = list(ctx.needs_input_grad[:3])
        geometry = stride, padding, dilation, False, [0, 0, 0], groups
        with exact_float32(x.device):
            grads = torch.ops.aten.convolution_backward(dy, x, weight, ctx.biases, *geometry, wanted)
        return *grads, None, None, None


class Float32Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`, always in float32: neither in bfloat16 nor, on a GPU, in TF32.

    In bfloat16 on a CPU, torch 2.13 computes 3-D convolutions wrongly if one side of the volume is 1: the
    output is NaN or, worse, a wrong number.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if not may_use_tf32(x.device):
                return super().forward(x)
            padding: Any = self.padding
            if padding == "same":  # this stride is 1
                around = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
                if any(x % 2 for x in around):
                    raise ValueError("a kernel with an even side needs its padding as numbers")
                padding = [x // 2 for x in around]
            geometry = self.stride, padding, (self.dilation, self.groups)
            out: Tensor = _ExactConv3d.apply(x, self.weight, self.bias, *geometry)  # type: ignore[no-untyped-call]
            return out

    def __call__(self, *args: Any) -> Tensor:
        """As `forward`."""
        return super().__call__(*args)  # type: ignore[no-any-return]
