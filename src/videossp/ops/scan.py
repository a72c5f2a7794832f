"""`Scan`, the arguments of a selective scan; `selective_scan` runs it on the fastest kernel there is."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from videossp.ops import cpu
from videossp.ops.reference import scan_reference


@dataclass(frozen=True)
class Scan:
    """What a selective scan reads, channels last as the projections give it; names as in mamba_ssm.

    Attributes:
        u: (batch, length, d_inner), the input.
        delta: (batch, length, d_inner), the step size before its bias and softplus.
        A: (d_inner, d_state), negative.
        B, C: (batch, length, d_state).
        D: (d_inner,), the skip weight, or None.
        z: (batch, length, d_inner), the output is multiplied by silu(z), or None.
        delta_bias: (d_inner,) or None.
        h0: (batch, d_inner, d_state), the state before the first step, or None for zero.
        reverse: scan from the end. The tensors stay in the order of the sequence; nothing is flipped.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None = None
    z: Tensor | None = None
    delta_bias: Tensor | None = None
    h0: Tensor | None = None
    reverse: bool = False

    def __post_init__(self) -> None:
        if self.u.ndim != 3 or self.u.shape[1] < 1:
            raise ValueError(f"u must be (batch, length >= 1, d_inner), got {tuple(self.u.shape)}")
        batch, length, d_inner = self.u.shape
        d_state = self.A.shape[-1]
        sequence = (batch, length, d_inner)
        shapes = {
            "delta": sequence,
            "A": (d_inner, d_state),
            "B": (batch, length, d_state),
            "C": (batch, length, d_state),
            "D": (d_inner,),
            "z": sequence,
            "delta_bias": (d_inner,),
            "h0": (batch, d_inner, d_state),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(f"{name} must be {shape} to fit u {sequence}, got {tuple(value.shape)}")


class _NumbaScan(torch.autograd.Function):
    """The Numba kernels as one differentiable operation; computes only the gradients asked for."""

    @staticmethod
    def forward(ctx: Any, reverse: bool, *tensors: Any) -> Tensor:
        keep_states = any(ctx.needs_input_grad)
        y, states = cpu.scan_forward(*tensors, reverse=reverse, keep_states=keep_states)
        ctx.save_for_backward(*tensors[:-1], states)
        ctx.reverse = reverse
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        wanted = ctx.needs_input_grad[1:]
        return None, *cpu.scan_backward(dy, *ctx.saved_tensors, reverse=ctx.reverse, wanted=wanted)


def kernel_for(device: torch.device, dtype: torch.dtype) -> str:
    """Which implementation scans tensors of this device and dtype: "numba" or "reference"."""
    return "numba" if device.type == "cpu" and dtype != torch.float64 else "reference"


def selective_scan(scan: Scan) -> Tensor:
    """Output of the selective state-space recurrence; `ops/reference.py` is the definition.

    The state and the exponentials are float32 (float64 for float64 input, which takes the reference loop).

    Args:
        scan: the arguments, see `Scan`.

    Returns:
        y: (batch, length, d_inner), in the dtype of `u`.
    """
    wide = torch.float64 if scan.u.dtype == torch.float64 else torch.float32
    tensors: Any = [scan.u, scan.delta, scan.A, scan.B, scan.C, scan.D, scan.delta_bias, scan.h0]
    tensors = [x if x is None else x.to(wide) for x in tensors]
    if kernel_for(scan.u.device, scan.u.dtype) == "numba":
        y: Tensor = _NumbaScan.apply(scan.reverse, *tensors)  # type: ignore[no-untyped-call]
    else:
        y = scan_reference(*tensors, reverse=scan.reverse)
    y = y.to(scan.u.dtype)
    return y if scan.z is None else y * F.silu(scan.z)
