"""`linear`, the matrix products: by oneDNN or MKL, and without the gradient of a frozen weight."""

from typing import Any

import torch
import torch.nn.functional as F
from llvmlite.binding import get_host_cpu_name
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from videossp.ops.dispatch import fused, once_differentiable

# Weight -> (its version and address, a copy in oneDNN's memory layout).
_packed: Any = WeakTensorKeyDictionary()
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
# Without the instructions for it, oneDNN refuses bfloat16, and torch's own product takes ten times as long as
# one in float32 whose result is rounded.
BFLOAT16 = ONEDNN and torch.ops.mkldnn._is_mkldnn_bf16_supported()
# For float32, MKL is a tenth faster than oneDNN on Intel's processors and half as fast on AMD's.
MKL = torch.backends.mkl.is_available() and not get_host_cpu_name().startswith(("znver", "bdver", "btver"))


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias by the faster library."""
    if x.dtype == torch.bfloat16 and not BFLOAT16:
        return _product(x.float(), weight.float(), None if bias is None else bias.float()).bfloat16()
    if MKL and x.dtype == torch.float32:
        return F.linear(x, weight, bias)
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _weight_gradient(dy: Tensor, x: Tensor) -> Tensor:
    """dy^T x. In bfloat16, oneDNN takes seconds instead of milliseconds if x is a slice of wider rows."""
    return dy.t() @ x if (dy.dtype == torch.bfloat16 and BFLOAT16) or not len(x) else _product(dy.t(), x.t())


def _pack(weight: Tensor, rows: int) -> Tensor:
    """A copy of a frozen weight in oneDNN's memory layout, made once: saves a tenth of the time."""
    state = 0 if weight.is_inference() else weight._version, weight.data_ptr()
    packed: tuple[tuple[int, int], Tensor] | None = _packed.get(weight)
    if packed is None or packed[0] != state:
        packed = state, torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
        _packed[weight] = packed
    return packed[1]


class _Linear(torch.autograd.Function):
    """A product that saves its input only if the weight is trainable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        dy_rows = dy.flatten(0, -2)
        return (
            _product(dy, weight.t()) if for_x else None,
            _weight_gradient(dy_rows, x.flatten(0, -2)) if for_weight else None,
            dy_rows.sum(0) if for_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias, as `torch.nn.functional.linear`, in autocast's dtype or else the weight's.

    Args:
        x: (..., features in).
        weight: (features out, features in).
        bias: (features out,) or None.

    Returns:
        (..., features out).
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    x, weight, bias = x.to(dtype), weight.to(dtype), bias if bias is None else bias.to(dtype)
    if not (ONEDNN and x.ndim > 1 and fused(x, weight, bias)):
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        frozen = isinstance(weight, nn.Parameter) and not weight.requires_grad
        if frozen and (BFLOAT16 if x.dtype == torch.bfloat16 else not MKL):
            weight = _pack(weight, x.numel() // x.shape[-1])
        return _product(x, weight, bias)
    if _packed:
        _packed.clear()  # training needs the memory more
    out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


class Linear(nn.Linear):
    """`torch.nn.Linear` computed by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
