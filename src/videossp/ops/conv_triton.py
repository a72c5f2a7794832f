"""Triton kernels of `conv_silu`. A program walks over ROWS steps and holds the rows of a step in registers.

All arithmetic is float32; bfloat16 is read and written directly.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from videossp.ops.triton_launch import block_of, cover, even_rows, on_device_of
from videossp.ops.triton_math import sigmoid

TAPS = 4  # kernel width of the published models
ROWS = 64  # steps of a program


@triton.jit
def _taps(weight, c, real):
    """The four taps (d_inner, 1, 4) of channels c."""
    return (
        tl.load(weight + c * 4, mask=real, other=0.0).to(tl.float32),
        tl.load(weight + c * 4 + 1, mask=real, other=0.0).to(tl.float32),
        tl.load(weight + c * 4 + 2, mask=real, other=0.0).to(tl.float32),
        tl.load(weight + c * 4 + 3, mask=real, other=0.0).to(tl.float32),
    )


@triton.jit(do_not_specialize=["length"])
def conv_kernel(
    x,
    weight,
    bias,
    weight_b,
    bias_b,
    u,
    u_b,
    length,
    width,
    x_b,
    x_t,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """ROWS rows of both directions; u and u_b are contiguous."""
    cb, b, start = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64) * ROWS
    c = cb * BLOCK + tl.arange(0, BLOCK)
    real = c < width
    xs, us, us_b = x + b * x_b + c, u + b * length * width + c, u_b + b * length * width + c
    w0, w1, w2, w3 = _taps(weight, c, real)
    r0, r1, r2, r3 = _taps(weight_b, c, real)
    shift = tl.load(bias + c, mask=real, other=0.0).to(tl.float32)
    shift_b = tl.load(bias_b + c, mask=real, other=0.0).to(tl.float32)
    # Rows t - 3 to t + 2; each step loads t + 3.
    m3 = tl.load(xs + (start - 3) * x_t, mask=real & (start - 3 + 0 * c >= 0), other=0.0).to(tl.float32)
    m2 = tl.load(xs + (start - 2) * x_t, mask=real & (start - 2 + 0 * c >= 0), other=0.0).to(tl.float32)
    m1 = tl.load(xs + (start - 1) * x_t, mask=real & (start - 1 + 0 * c >= 0), other=0.0).to(tl.float32)
    here = tl.load(xs + start * x_t, mask=real, other=0.0).to(tl.float32)
    p1 = tl.load(xs + (start + 1) * x_t, mask=real & (start + 1 + 0 * c < length), other=0.0).to(tl.float32)
    p2 = tl.load(xs + (start + 2) * x_t, mask=real & (start + 2 + 0 * c < length), other=0.0).to(tl.float32)
    for t in range(start, tl.minimum(start + ROWS, length)):
        p3 = tl.load(xs + (t + 3) * x_t, mask=real & (t + 3 + 0 * c < length), other=0.0).to(tl.float32)
        v = w0 * m3 + w1 * m2 + w2 * m1 + w3 * here + shift
        tl.store(us + t * width, (v * sigmoid(v)).to(u.dtype.element_ty), mask=real)
        v = r0 * p3 + r1 * p2 + r2 * p1 + r3 * here + shift_b
        tl.store(us_b + t * width, (v * sigmoid(v)).to(u.dtype.element_ty), mask=real)
        m3, m2, m1, here, p1, p2 = m2, m1, here, p1, p2, p3


@triton.jit(do_not_specialize=["length"])
def conv_backward_kernel(
    du, du_b, x, weight, bias, weight_b, bias_b, dx, dweight, dbias, length, width, x_b, x_t, du_t, du_b_t,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, FOR_X: tl.constexpr, FOR_WEIGHT: tl.constexpr,
    FOR_BIAS: tl.constexpr,
):  # fmt: skip
    """Gradients of ROWS rows. dweight is (programs of a sequence, batch, 2, TAPS, width), a part per program;
    dbias is the same without TAPS.

    The gradient of row t of x needs the gradients before the activation of rows t - 3 to t + 3: three rows on
    each side of a program's own are computed twice.
    """
    cb, b, start = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64) * ROWS
    c = cb * BLOCK + tl.arange(0, BLOCK)
    real = c < width
    xs, dxs = x + b * x_b + c, dx + b * length * width + c
    dus, dus_b = du + b * length * du_t + c, du_b + b * length * du_b_t + c
    w0, w1, w2, w3 = _taps(weight, c, real)
    r0, r1, r2, r3 = _taps(weight_b, c, real)
    shift = tl.load(bias + c, mask=real, other=0.0).to(tl.float32)
    shift_b = tl.load(bias_b + c, mask=real, other=0.0).to(tl.float32)
    zero = tl.zeros((BLOCK,), tl.float32)
    first = start - 3
    stop = tl.minimum(start + ROWS, length)
    m3 = tl.load(xs + (first - 3) * x_t, mask=real & (first - 3 + 0 * c >= 0), other=0.0).to(tl.float32)
    m2 = tl.load(xs + (first - 2) * x_t, mask=real & (first - 2 + 0 * c >= 0), other=0.0).to(tl.float32)
    m1 = tl.load(xs + (first - 1) * x_t, mask=real & (first - 1 + 0 * c >= 0), other=0.0).to(tl.float32)
    here = tl.load(xs + first * x_t, mask=real & (first + 0 * c >= 0), other=0.0).to(tl.float32)
    p1 = tl.load(
        xs + (first + 1) * x_t, mask=real & (first + 1 + 0 * c >= 0) & (first + 1 + 0 * c < length), other=0.0
    ).to(tl.float32)
    p2 = tl.load(
        xs + (first + 2) * x_t, mask=real & (first + 2 + 0 * c >= 0) & (first + 2 + 0 * c < length), other=0.0
    ).to(tl.float32)
    # Gradients before the activation: of rows t - 3 to t - 1, and of the other direction t - 6 to t - 1.
    g3, g2, g1, b6, b5, b4, b3, b2, b1 = zero, zero, zero, zero, zero, zero, zero, zero, zero
    a0, a1, a2, a3, a4, a5, a6, a7, s0, s1 = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
    for t in range(first, stop + 3):
        there = real & (t + 0 * c >= 0) & (t + 0 * c < length)
        p3 = tl.load(xs + (t + 3) * x_t, mask=real & (t + 3 + 0 * c < length), other=0.0).to(tl.float32)
        v = w0 * m3 + w1 * m2 + w2 * m1 + w3 * here + shift
        s = sigmoid(v)
        g = tl.load(dus + t * du_t, mask=there, other=0.0).to(tl.float32) * (s * (1.0 + v * (1.0 - s)))
        v = r0 * p3 + r1 * p2 + r2 * p1 + r3 * here + shift_b
        s = sigmoid(v)
        gb = tl.load(dus_b + t * du_b_t, mask=there, other=0.0).to(tl.float32) * (s * (1.0 + v * (1.0 - s)))
        if FOR_WEIGHT or FOR_BIAS:
            own = (t + 0 * c >= start) & (t + 0 * c < stop)
            h, hb = tl.where(own, g, 0.0), tl.where(own, gb, 0.0)
            if FOR_WEIGHT:
                a0, a1, a2, a3 = a0 + h * m3, a1 + h * m2, a2 + h * m1, a3 + h * here
                a4, a5, a6, a7 = a4 + hb * p3, a5 + hb * p2, a6 + hb * p1, a7 + hb * here
            if FOR_BIAS:
                s0, s1 = s0 + h, s1 + hb
        if FOR_X:
            done = t - 3
            out = w3 * g3 + w2 * g2 + w1 * g1 + w0 * g + r3 * b3 + r2 * b4 + r1 * b5 + r0 * b6
            mask = real & (done + 0 * c >= start) & (done + 0 * c < stop)
            tl.store(dxs + done * width, out.to(dx.dtype.element_ty), mask=mask)
        m3, m2, m1, here, p1, p2 = m2, m1, here, p1, p2, p3
        g3, g2, g1 = g2, g1, g
        b6, b5, b4, b3, b2, b1 = b5, b4, b3, b2, b1, gb
    slot = (tl.program_id(2) * tl.num_programs(1) + b) * (2 * width) + c
    if FOR_BIAS:
        tl.store(dbias + slot, s0, mask=real)
        tl.store(dbias + slot + width, s1, mask=real)
    if FOR_WEIGHT:
        into = dweight + (tl.program_id(2) * tl.num_programs(1) + b) * (8 * width) + c
        tl.store(into, a0, mask=real)
        tl.store(into + width, a1, mask=real)
        tl.store(into + 2 * width, a2, mask=real)
        tl.store(into + 3 * width, a3, mask=real)
        tl.store(into + 4 * width, a4, mask=real)
        tl.store(into + 5 * width, a5, mask=real)
        tl.store(into + 6 * width, a6, mask=real)
        tl.store(into + 7 * width, a7, mask=real)


def conv_forward(
    x: Tensor, weight: Tensor, bias: Tensor, weight_b: Tensor, bias_b: Tensor
) -> tuple[Tensor, Tensor]:
    """Both directions of `conv_silu`."""
    batch, length, width = x.shape
    with on_device_of(x):
        x, block = even_rows(x), block_of(width)
        parameters = [t.contiguous() for t in (weight, bias, weight_b, bias_b)]
        u, u_b = x.new_empty(x.shape), x.new_empty(x.shape)
        conv_kernel[(cover(width, block), batch, cover(length, ROWS))](
            *(x, *parameters, u, u_b, length, width, x.stride(0), x.stride(1)),
            **{"BLOCK": block, "ROWS": ROWS, "num_warps": 1},
        )
    return u, u_b


def conv_backward(
    du: Tensor,
    du_b: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    weight_b: Tensor,
    bias_b: Tensor,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, of both weights (2, TAPS, width) and of both biases (2, width); None if not wanted."""
    batch, length, width = x.shape
    with on_device_of(x):
        x, du, du_b = even_rows(x), even_rows(du), even_rows(du_b)
        parameters = [t.contiguous() for t in (weight, bias, weight_b, bias_b)]
        block, parts = block_of(width), cover(length, ROWS)
        shapes: list[tuple[int, ...]] = [x.shape, (parts, batch, 2, TAPS, width), (parts, batch, 2, width)]
        dtypes = x.dtype, torch.float32, torch.float32
        grads = [
            x.new_empty(shape, dtype=dtype) if want else None
            for shape, dtype, want in zip(shapes, dtypes, wanted, strict=True)
        ]
        names = "FOR_X", "FOR_WEIGHT", "FOR_BIAS"
        conv_backward_kernel[(cover(width, block), batch, parts)](
            *(du, du_b, x, *parameters, *(x if grad is None else grad for grad in grads)),
            *(length, width, x.stride(0), x.stride(1), du.stride(1), du_b.stride(1)),
            **{"BLOCK": block, "ROWS": ROWS, "num_warps": 1},
            **dict(zip(names, wanted, strict=True)),
        )
        dx, dweight, dbias = grads
        summed = [None if grad is None else grad.sum((0, 1)) for grad in (dweight, dbias)]
        return dx, summed[0], summed[1]
