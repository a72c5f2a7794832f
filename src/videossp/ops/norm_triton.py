"""Triton kernels of `add_norm`. All arithmetic is float32; bfloat16 is read and written directly."""

import triton
import triton.language as tl
from torch import Tensor

from videossp.ops.triton_launch import cover, on_device_of

ROWS = 16  # of a program of the backward, which sums the gradient of the weight over them


@triton.jit
def norm_kernel(residual, hidden, weight, total, x, scale, width, eps, BLOCK: tl.constexpr):
    """One row: residual + hidden, its RMS norm, and 1 / sqrt(mean square + eps) for the backward."""
    t, c = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    real = c < width
    v = tl.load(residual + t * width + c, mask=real, other=0.0)
    v += tl.load(hidden + t * width + c, mask=real, other=0.0).to(tl.float32)
    r = 1.0 / tl.sqrt(tl.sum(v * v, 0) / width + eps)
    w = tl.load(weight + c, mask=real, other=0.0).to(tl.float32)
    tl.store(total + t * width + c, v, mask=real)
    tl.store(x + t * width + c, (v * r * w).to(x.dtype.element_ty), mask=real)
    tl.store(scale + t, r)


@triton.jit(do_not_specialize=["rows"])
def norm_backward_kernel(
    dtotal, dx, total, scale, weight, dsum, dweight, rows, width,
    HAS_TOTAL: tl.constexpr, FOR_WEIGHT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The gradient of the sum, of ROWS rows. dweight is (programs, width): a part per program."""
    first, c = tl.program_id(0).to(tl.int64) * ROWS, tl.arange(0, BLOCK)
    real = c < width
    w = tl.load(weight + c, mask=real, other=0.0).to(tl.float32)
    sum_w = tl.zeros((BLOCK,), tl.float32)
    for t in range(first, tl.minimum(first + ROWS, rows)):
        at = t * width + c
        d = tl.load(dx + at, mask=real, other=0.0).to(tl.float32)
        v = tl.load(total + at, mask=real, other=0.0)
        r = tl.load(scale + t)
        along = tl.sum(d * w * v, 0) * (r * r * r) / width
        out = d * w * r - v * along
        if HAS_TOTAL:
            out += tl.load(dtotal + at, mask=real, other=0.0)
        tl.store(dsum + at, out, mask=real)
        if FOR_WEIGHT:
            sum_w += d * v * r
    if FOR_WEIGHT:
        tl.store(dweight + tl.program_id(0).to(tl.int64) * width + c, sum_w, mask=real)


def _sizes(width: int) -> dict[str, int]:
    block = int(triton.next_power_of_2(width))
    return {"BLOCK": block, "num_warps": 4 if block > 256 else 1}


def norm_forward(
    residual: Tensor, hidden: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum, its norm in the dtype of hidden, and 1 / sqrt(mean square + eps) of each row."""
    batch, length, width = residual.shape
    with on_device_of(residual):
        residual, hidden, weight = residual.contiguous(), hidden.contiguous(), weight.contiguous()
        total, x = residual.new_empty(residual.shape), hidden.new_empty(hidden.shape)
        scale = residual.new_empty(batch, length)
        norm_kernel[(batch * length,)](residual, hidden, weight, total, x, scale, width, eps, **_sizes(width))
    return total, x, scale


def norm_backward(
    dtotal: Tensor | None, dx: Tensor, total: Tensor, scale: Tensor, weight: Tensor, *, for_weight: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the sum, which residual and hidden share, and of the weight, or None if not wanted."""
    batch, length, width = total.shape
    rows = batch * length
    with on_device_of(total):
        dx, weight, dsum = dx.contiguous(), weight.contiguous(), total.new_empty(total.shape)
        dtotal = None if dtotal is None else dtotal.contiguous()
        dweight = total.new_empty(cover(rows, ROWS), width) if for_weight else None
        norm_backward_kernel[(cover(rows, ROWS),)](
            *(total if dtotal is None else dtotal, dx, total, scale, weight, dsum),
            *(total if dweight is None else dweight, rows, width),
            **{"HAS_TOTAL": dtotal is not None, "FOR_WEIGHT": for_weight, "ROWS": ROWS, **_sizes(width)},
        )
        return dsum, None if dweight is None else dweight.sum(0)
