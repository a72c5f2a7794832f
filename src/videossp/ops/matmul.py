"""`linear`, the matrix products: through oneDNN or MKL, and without the gradient of a frozen weight."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from llvmlite.binding import get_host_cpu_name
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from videossp.ops.dispatch import fused, once

# By weight: its version, and itself as oneDNN wants it.
_packed: Any = WeakTensorKeyDictionary()
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
# torch's default for float32: on Intel's processors a tenth faster than oneDNN, on AMD's it halves the speed.
MKL = torch.backends.mkl.is_available() and not get_host_cpu_name().startswith(("znver", "bdver", "btver"))


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias by the faster library."""
    if MKL and x.dtype == torch.float32:
        return F.linear(x, weight, bias)
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _weight_gradient(dy: Tensor, x: Tensor) -> Tensor:
    """dy^T x. In bfloat16 oneDNN takes seconds, not milliseconds, for an x that is a slice of wider rows."""
    return dy.t() @ x if dy.dtype == torch.bfloat16 or not len(x) else _product(dy.t(), x.t())


def _arranged(weight: Tensor, rows: int) -> Tensor:
    """A frozen weight in the order in which oneDNN reads it: a copy, made once, to save a tenth."""
    state = 0 if weight.is_inference() else weight._version, weight.data_ptr()
    kept: tuple[tuple[int, int], Tensor] | None = _packed.get(weight)
    if kept is None or kept[0] != state:
        kept = state, torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
        _packed[weight] = kept
    return kept[1]


class _Linear(torch.autograd.Function):
    """A product that keeps its input only if the weight learns."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once
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
    """x weight^T + bias, as `torch.nn.functional.linear`, in the dtype of autocast or else of the weight.

    Args:
        x: (..., features in).
        weight: (features out, features in).
        bias: (features out,) or None.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    x, weight, bias = x.to(dtype), weight.to(dtype), bias if bias is None else bias.to(dtype)
    if not (ONEDNN and x.ndim > 1 and fused(x, weight, bias)):
        return F.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        frozen = isinstance(weight, nn.Parameter) and not weight.requires_grad
        if frozen and not (MKL and x.dtype == torch.float32):
            weight = _arranged(weight, x.numel() // x.shape[-1])
        return _product(x, weight, bias)
    if _packed:
        _packed.clear()  # training needs the memory more
    out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def recompute_in_backward(*recipes: tuple[Tensor, Callable[[], Tensor]]) -> AbstractContextManager[Any]:
    """Within this context, autograd keeps the way to make a tensor in place of the tensor.

    Args:
        recipes: tensors, and what makes each again when the backward asks for it. One that has been written
            to since it was made is kept.
    """
    fresh = (x for x in recipes if not x[0].is_inference() and x[0]._version == 0)
    places = {(x.data_ptr(), x.shape): make for x, make in fresh}
    device = recipes[0][0].device.type
    rounds, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def pack(kept: Tensor) -> Any:
        # Detached: a result that its own graph kept would keep that graph alive for ever.
        return places.get((kept.data_ptr(), kept.shape), (kept.detach(), kept._version))

    def unpack(kept: Any) -> Tensor:
        if isinstance(kept, tuple):
            tensor, version = kept
            if tensor._version != version:
                raise RuntimeError("a tensor that the backward needs was written to after the forward")
            return tensor  # type: ignore[no-any-return]
        with torch.no_grad(), torch.autocast(device, dtype, rounds):  # the backward runs outside of it
            return kept()  # type: ignore[no-any-return]

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


class Linear(nn.Linear):
    """torch's layer on `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
