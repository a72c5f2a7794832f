"""Triton kernels of `gate`. All arithmetic is float32; bfloat16 is read and written directly."""

import triton
import triton.language as tl
from torch import Tensor

from videossp.ops.triton_launch import block_of, cover, even_rows, on_device_of
from videossp.ops.triton_math import sigmoid

ROWS = 8  # of a program


@triton.jit(do_not_specialize=["rows"])
def gate_kernel(
    y, y_b, z, total, out, rows, width, z_t, KEEP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """(y + y_b) silu(z), rows of all clips. With KEEP, total receives y + y_b for the backward."""
    t = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (t < rows) & (c < width)
    at = t * width + c
    g = tl.load(z + t * z_t + c, mask=mask, other=0.0).to(tl.float32)
    both = tl.load(y + at, mask=mask, other=0.0).to(tl.float32)
    both += tl.load(y_b + at, mask=mask, other=0.0).to(tl.float32)
    if KEEP:
        tl.store(total + at, both.to(total.dtype.element_ty), mask=mask)
    tl.store(out + at, (both * g * sigmoid(g)).to(out.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["rows"])
def gate_backward_kernel(
    dout, total, z, dy, dz, rows, width, z_t, FOR_Y: tl.constexpr, FOR_Z: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of y, which is also that of y_b, and of z."""
    t = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = (t < rows) & (c < width)
    at = t * width + c
    g = tl.load(z + t * z_t + c, mask=mask, other=0.0).to(tl.float32)
    d = tl.load(dout + at, mask=mask, other=0.0).to(tl.float32)
    s = sigmoid(g)
    if FOR_Y:
        tl.store(dy + at, (d * g * s).to(dy.dtype.element_ty), mask=mask)
    if FOR_Z:
        both = tl.load(total + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(dz + at, (d * both * s * (1.0 + g * (1.0 - s))).to(dz.dtype.element_ty), mask=mask)


def _grid(x: Tensor, block: int) -> tuple[int, int]:
    return cover(x.shape[0] * x.shape[1], ROWS), cover(x.shape[2], block)


def gate_forward(y: Tensor, y_b: Tensor, z: Tensor, *, keep_total: bool) -> tuple[Tensor, Tensor]:
    """(y + y_b) silu(z) in the dtype of y, and y + y_b for the backward, or an empty tensor."""
    with on_device_of(y):
        y, y_b, z, block = y.contiguous(), y_b.contiguous(), even_rows(z), block_of(y.shape[2])
        out, total = y.new_empty(y.shape), y.new_empty(y.shape if keep_total else (0,))
        gate_kernel[_grid(y, block)](
            *(y, y_b, z, total if keep_total else y, out, y.shape[0] * y.shape[1], y.shape[2], z.stride(1)),
            **{"KEEP": keep_total, "ROWS": ROWS, "BLOCK": block, "num_warps": 4},
        )
    return out, total


def gate_backward(
    dout: Tensor, total: Tensor, z: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of y (that of y_b is the same) and of z; None if not wanted."""
    with on_device_of(total):
        dout, z, block = dout.contiguous(), even_rows(z), block_of(total.shape[2])
        dy = total.new_empty(total.shape) if wanted[0] else None
        dz = z.new_empty(total.shape) if wanted[1] else None
        rows = total.shape[0] * total.shape[1]
        gate_backward_kernel[_grid(total, block)](
            *(dout, total, z, total if dy is None else dy, total if dz is None else dz),
            *(rows, total.shape[2], z.stride(1)),
            **{"FOR_Y": wanted[0], "FOR_Z": wanted[1], "ROWS": ROWS, "BLOCK": block, "num_warps": 4},
        )
    return dy, dz
