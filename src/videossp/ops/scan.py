"""`Scan`, the arguments of a selective scan; `selective_scan` runs it on the fastest available kernel."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from videossp.ops import scan_cpu
from videossp.ops.dispatch import (
    KERNEL_DTYPES,
    fits_a_grid,
    fused,
    learning,
    scan_kernel,
    tell_why_not_triton,
)
from videossp.ops.scan_chunked import scan_chunked
from videossp.ops.scan_cuda import scan_mamba


@dataclass(frozen=True)
class Scan:
    """Arguments of a selective scan, channels last as the projections return them; names as in mamba_ssm.

    Attributes:
        u: (batch, length, d_inner), the input; length is at least 1.
        delta: (batch, length, d_inner), the step size before its bias and softplus.
        A: (d_inner, d_state), negative.
        B, C: (batch, length, d_state).
        D: (d_inner,), the skip weight, or None.
        delta_bias: (d_inner,) or None.
        h0: (batch, d_inner, d_state), the state before the first step, or None for zero.
        reverse: scan from the end. The tensors stay in the order of the sequence; nothing is flipped.

    Raises:
        ValueError: a shape does not fit u; names the argument.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None = None
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
            "delta_bias": (d_inner,),
            "h0": (batch, d_inner, d_state),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(f"{name} must be {shape} to fit u {sequence}, got {tuple(value.shape)}")


@torch.library.custom_op("videossp::selective_scan", mutates_args=(), device_types="cpu")
def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    h0: Tensor | None,
    reverse: bool,
    keep_states: bool,
) -> tuple[Tensor, Tensor]:
    """The kernels of Numba and Triton as a torch operator, one node for torch.compile: y and states."""
    return scan_cpu.scan_forward(
        u, delta, A, B, C, D, delta_bias, h0, reverse=reverse, keep_states=keep_states
    )


@_scan.register_kernel("cuda")
def _(*inputs: Any) -> tuple[Tensor, Tensor]:
    from videossp.ops.scan_triton import scan_forward

    *tensors, reverse, keep_states = inputs
    return scan_forward(*tensors, reverse=reverse, keep_states=keep_states)


@_scan.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    states = u.new_empty(scan_cpu.states_shape(u.shape, A.shape[1], rest[-1]), dtype=torch.float32)
    return torch.empty_like(u, memory_format=torch.contiguous_format), states


@torch.library.custom_op("videossp::selective_scan_backward", mutates_args=(), device_types="cpu")
def _scan_backward(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    states: Tensor,
    reverse: bool,
    wanted: list[bool],
) -> list[Tensor]:
    """Gradients of u, delta, A, B, C, D, delta_bias, h0; empty where not wanted."""
    inputs = dy, u, delta, A, B, C, D, delta_bias, states
    grads = scan_cpu.scan_backward(*inputs, reverse=reverse, wanted=tuple(wanted))
    return [u.new_empty(0) if grad is None else grad for grad in grads]


@_scan_backward.register_kernel("cuda")
def _(dy: Tensor, u: Tensor, *rest: Any) -> list[Tensor]:
    from videossp.ops.scan_triton import scan_backward

    *tensors, reverse, wanted = rest
    grads = scan_backward(dy, u, *tensors, reverse=reverse, wanted=tuple(wanted))
    return [u.new_empty(0) if grad is None else grad for grad in grads]


@_scan_backward.register_fake
def _(dy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *rest: Any) -> list[Tensor]:
    wanted: list[bool] = rest[-1]
    # u and delta may be bfloat16; every other gradient is float32, also that of an absent D, bias or h0.
    h0 = (u.shape[0], *A.shape)
    shapes = [u.shape, delta.shape, A.shape, B.shape, C.shape, A.shape[:1], A.shape[:1], h0]
    dtypes = [u.dtype, delta.dtype] + 6 * [torch.float32]
    return [
        u.new_empty(shape, dtype=dtype) if want else u.new_empty(0)
        for shape, dtype, want in zip(shapes, dtypes, wanted, strict=True)
    ]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, _, ctx.reverse, _ = inputs  # h0 is not saved: states[:, 0] holds it
    ctx.set_materialize_grads(False)  # no zeros for the gradient of the states, which nothing uses
    ctx.save_for_backward(*tensors, output[1])


def _differentiate(ctx: Any, dy: Tensor, _: None) -> Any:
    wanted = list(ctx.needs_input_grad[:8])
    grads = _scan_backward(dy, *ctx.saved_tensors, ctx.reverse, wanted)
    return *(grad if want else None for grad, want in zip(grads, wanted, strict=True)), None, None


_scan.register_autograd(_differentiate, setup_context=_keep)


MOST_STATES = {"numba": scan_cpu.MOST_STATES, "triton": 64, "mamba_ssm": 256}  # per channel


def scan_fits(*sequences: Tensor) -> bool:
    """Whether the Triton kernels can compute these.

    Within a clip they address with 32 bits, which saves instructions. Clips are the second axis of a grid,
    whose length CUDA limits.
    """
    return all(
        fits_a_grid(x.shape[0]) and x.shape[1] * max(x.shape[2], abs(x.stride(1))) < 2**31 for x in sequences
    )


def selective_scan(scan: Scan) -> Tensor:
    """Output of the selective state-space recurrence; `ops/reference.py` is the definition.

    `dispatch.scan_kernel` chooses the implementation: Numba on a CPU; on a GPU Triton, else mamba_ssm if it
    is installed; otherwise plain torch, a chunk of steps at a time. State and exponentials are float32;
    float64 inputs are computed in float64 by plain torch.

    Args:
        scan: the arguments, see `Scan`.

    Returns:
        y: (batch, length, d_inner), in the dtype of `u`.
    """
    kernel = scan_kernel(scan.u.device, scan.u.dtype)
    if kernel not in ("numba", "triton"):
        tell_why_not_triton(scan.u.device)
    most = MOST_STATES.get(kernel)
    if most is not None and scan.A.shape[1] > most:
        kernel = "chunked"
    if kernel == "mamba_ssm" and scan.h0 is not None:
        kernel = "chunked"
    if kernel == "triton" and not scan_fits(scan.u, scan.delta):
        kernel = "chunked"
    operator = kernel in ("numba", "triton")
    wide = torch.float64 if scan.u.dtype == torch.float64 else torch.float32
    sequences: list[Any] = [scan.u, scan.delta]
    if not operator or any(x.dtype not in KERNEL_DTYPES for x in sequences):
        sequences = [x.to(wide) for x in sequences]  # the operator reads bfloat16 directly
    steps: list[Any] = [scan.B, scan.C]
    if kernel != "triton" or any(x.dtype not in KERNEL_DTYPES for x in steps):
        steps = [x.to(wide) for x in steps]
    rest: list[Any] = [scan.D, scan.delta_bias, scan.h0]
    tensors = [*sequences, scan.A.to(wide), *steps, *(x if x is None else x.to(wide) for x in rest)]
    if kernel == "numba" and fused(*tensors) and not learning(*tensors):
        # Not through the operator, whose first call imports torch's compiler (two seconds).
        y: Tensor = scan_cpu.scan_forward(*tensors, reverse=scan.reverse, keep_states=False)[0]
    elif operator:
        y = _scan(*tensors, scan.reverse, learning(*tensors))[0]
    elif kernel == "mamba_ssm":
        y = scan_mamba(*tensors[:-1], reverse=scan.reverse)
    else:
        y = scan_chunked(*tensors, reverse=scan.reverse)
    return y.to(scan.u.dtype)
