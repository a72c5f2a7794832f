"""Numba kernels of the selective scan for the CPU, forward and backward: no compiler, no CUDA.

Sequences lie channels last, so that the innermost loop runs over a block of channels and becomes
vector instructions; a job is one (clip, channel block), and `threads.py` hands the jobs out.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from torch import Tensor

from videossp.ops.threads import run_jobs

BLOCK = 128  # channels of one job; the state of a block (d_state, BLOCK) stays in the L1 cache
CHUNK = 64  # steps between stored states; what the backward recomputes of a chunk stays in L2
LOG2E = np.float32(1.4426950408889634)
# No "nnan"/"ninf": a NaN that comes in must come out.
FAST = {"reassoc", "contract", "nsz", "arcp"}
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": FAST, "error_model": "numpy"}


def kernel(**options: Any) -> Any:
    """Compile with Numba at first use; keep the result on disk if there is a place to write."""

    def compiled(function: Any) -> Any:
        try:
            return njit(cache=True, **OPTIONS, **options)(function)
        except RuntimeError:  # "no locator available": a read-only package and no writable home
            return njit(**OPTIONS, **options)(function)

    return compiled


@intrinsic
def _truncate(typingctx, x):
    """x rounded toward zero, by way of int32, which has a vector instruction everywhere."""

    def codegen(context, builder, signature, args):
        return builder.sitofp(builder.fptosi(args[0], ir.IntType(32)), ir.FloatType())

    return types.float32(types.float32), codegen


@intrinsic
def _times_power_of_two(typingctx, x, exponent):
    """x * 2**exponent for a whole exponent, added to the exponent bits of x."""

    def codegen(context, builder, signature, args):
        i32 = ir.IntType(32)
        shifted = builder.shl(builder.fptosi(args[1], i32), ir.Constant(i32, 23))
        return builder.bitcast(builder.add(builder.bitcast(args[0], i32), shifted), ir.FloatType())

    return types.float32(types.float32, types.float32), codegen


@kernel(inline="always")
def _exp2(x):
    """2**x for x <= 0 to 1e-7 relative: 2**whole by exponent bits, 2**rest by a minimax polynomial."""
    x = np.float32(-126.0) if x < np.float32(-126.0) else x
    whole: Any = _truncate(x - np.float32(0.5))  # type: ignore[call-arg]
    r = x - whole
    q = np.float32(1.333353844e-03)
    q = q * r + np.float32(9.666245633e-03)
    q = q * r + np.float32(5.550500215e-02)
    q = q * r + np.float32(2.402235134e-01)
    q = q * r + np.float32(6.931471435e-01)
    # 1 + r q is exact at r = 0, so that a decay close to 1 stays right over thousands of steps.
    return _times_power_of_two(np.float32(1.0) + r * q, whole)


@kernel(inline="always")
def _log1p(x):
    """log(1 + x) for 0 <= x <= 1 to 1e-7 relative."""
    q = np.float32(5.232690697e-03)
    q = q * x + np.float32(-2.950522892e-02)
    q = q * x + np.float32(7.822594433e-02)
    q = q * x + np.float32(-1.366324604e-01)
    q = q * x + np.float32(1.910600743e-01)
    q = q * x + np.float32(-2.484298259e-01)
    q = q * x + np.float32(3.331909690e-01)
    q = q * x + np.float32(-4.999949315e-01)
    q = q * x + np.float32(9.999999699e-01)
    return x * q


@kernel(inline="always")
def _softplus(x):
    """log(1 + exp(x)) without overflow."""
    small = _log1p(_exp2(-abs(x) * LOG2E))
    return small + (np.float32(0.0) if x < np.float32(0.0) else x)


@kernel(inline="always")
def _sigmoid(x):
    """1 / (1 + exp(-x)) without overflow."""
    e = _exp2(-abs(x) * LOG2E)
    return (e if x < np.float32(0.0) else np.float32(1.0)) / (np.float32(1.0) + e)


@kernel()
def _scan_block(job, u, delta, A2, B, C, D, bias, h0, y, states, reverse):
    """One clip, one block of channels: walk the sequence once, keep the state in cache.

    A2 is A log2(e), (d_state, d_inner); states is (batch, chunks, d_state, d_inner) or empty, and
    receives the state at the start of each chunk, for the backward.
    """
    length, d_inner = u.shape[1], u.shape[2]
    d_state = B.shape[2]
    blocks = (d_inner + BLOCK - 1) // BLOCK
    batch, first = job // blocks, job % blocks * BLOCK
    width = min(BLOCK, d_inner - first)
    a, h = np.zeros((d_state, BLOCK), np.float32), np.zeros((d_state, BLOCK), np.float32)
    skip, shift = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    dt, dtu, acc = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    for c in range(width):
        skip[c], shift[c] = D[first + c], bias[first + c]
    for n in range(d_state):
        for c in range(width):
            a[n, c], h[n, c] = A2[n, first + c], h0[batch, n, first + c]
    for step in range(length):
        t = length - 1 - step if reverse else step
        if states.size > 0 and step % CHUNK == 0:
            for n in range(d_state):
                for c in range(width):
                    states[batch, step // CHUNK, n, first + c] = h[n, c]
        for c in range(width):
            x = u[batch, t, first + c]
            acc[c] = skip[c] * x
            dtu[c] = x
            dt[c] = delta[batch, t, first + c]
        for c in range(BLOCK):
            dt[c] = _softplus(dt[c] + shift[c])
            dtu[c] *= dt[c]
        for n in range(d_state):
            b, k = B[batch, t, n], C[batch, t, n]
            for c in range(BLOCK):
                state = _exp2(dt[c] * a[n, c]) * h[n, c] + dtu[c] * b
                h[n, c] = state
                acc[c] += state * k
        for c in range(width):
            y[batch, t, first + c] = acc[c]


@kernel()
def _scan_block_backward(
    job, dy, u, delta, A2, B, C, D, bias, states, du, ddelta, dB, dC, dA, dD, dbias, dh0, reverse
):
    """Gradients of one clip and channel block: per chunk, recompute the states, then walk back.

    dB and dC are (blocks, batch, length, d_state), dA (batch, d_state, d_inner), dD and dbias
    (batch, d_inner): one slot per job, summed by the caller. An empty array is not wanted.
    """
    length, d_inner = u.shape[1], u.shape[2]
    d_state = B.shape[2]
    blocks = (d_inner + BLOCK - 1) // BLOCK
    batch, block = job // blocks, job % blocks
    first = block * BLOCK
    width = min(BLOCK, d_inner - first)
    a, g = np.zeros((d_state, BLOCK), np.float32), np.zeros((d_state, BLOCK), np.float32)
    ga = np.zeros((d_state, BLOCK), np.float32)
    decay = np.zeros((CHUNK, d_state, BLOCK), np.float32)
    h = np.zeros((CHUNK + 1, d_state, BLOCK), np.float32)
    x, dt = np.zeros((CHUNK, BLOCK), np.float32), np.zeros((CHUNK, BLOCK), np.float32)
    skip, shift = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    gy, gdt, gdtu = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    dtu, gskip, gshift = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)
    for c in range(width):
        skip[c], shift[c] = D[first + c], bias[first + c]
    for n in range(d_state):
        for c in range(width):
            a[n, c] = A2[n, first + c]
    for chunk in range((length - 1) // CHUNK, -1, -1):
        start = chunk * CHUNK
        steps = min(CHUNK, length - start)
        for n in range(d_state):
            for c in range(width):
                h[0, n, c] = states[batch, chunk, n, first + c]
        for s in range(steps):
            t = length - 1 - start - s if reverse else start + s
            for c in range(width):
                x[s, c], dt[s, c] = u[batch, t, first + c], delta[batch, t, first + c]
            for c in range(BLOCK):
                dt[s, c] = _softplus(dt[s, c] + shift[c])
                dtu[c] = dt[s, c] * x[s, c]
            for n in range(d_state):
                b = B[batch, t, n]
                for c in range(BLOCK):
                    e = _exp2(dt[s, c] * a[n, c])
                    decay[s, n, c] = e
                    h[s + 1, n, c] = e * h[s, n, c] + dtu[c] * b
        for s in range(steps - 1, -1, -1):
            t = length - 1 - start - s if reverse else start + s
            for c in range(width):
                gy[c] = dy[batch, t, first + c]
            for c in range(BLOCK):
                gdt[c], gdtu[c] = np.float32(0.0), np.float32(0.0)
                dtu[c] = dt[s, c] * x[s, c]
            for n in range(d_state):
                b, k = B[batch, t, n], C[batch, t, n]
                sum_b, sum_c = np.float32(0.0), np.float32(0.0)
                for c in range(BLOCK):
                    gh = g[n, c] + gy[c] * k
                    sum_c += gy[c] * h[s + 1, n, c]
                    sum_b += gh * dtu[c]
                    gdtu[c] += gh * b
                    back = gh * decay[s, n, c]
                    g[n, c] = back
                    gdt[c] += back * h[s, n, c] * a[n, c]
                if dA.size > 0:
                    for c in range(BLOCK):
                        ga[n, c] += g[n, c] * h[s, n, c] * dt[s, c]
                if dB.size > 0:
                    dB[block, batch, t, n] = sum_b
                if dC.size > 0:
                    dC[block, batch, t, n] = sum_c
            for c in range(width):
                # a holds A log2(e), so its sum is scaled back; d softplus(v)/dv = 1 - exp(-softplus(v)).
                slope = _sigmoid(delta[batch, t, first + c] + shift[c])
                gv = (gdt[c] / LOG2E + gdtu[c] * x[s, c]) * slope
                if du.size > 0:
                    du[batch, t, first + c] = gdtu[c] * dt[s, c] + gy[c] * skip[c]
                if ddelta.size > 0:
                    ddelta[batch, t, first + c] = gv
                gskip[c] += gy[c] * x[s, c]
                gshift[c] += gv
    for c in range(width):
        if dD.size > 0:
            dD[batch, first + c] = gskip[c]
        if dbias.size > 0:
            dbias[batch, first + c] = gshift[c]
    for n in range(d_state):
        for c in range(width):
            if dA.size > 0:
                dA[batch, n, first + c] = ga[n, c]
            if dh0.size > 0:
                dh0[batch, n, first + c] = g[n, c]


def _jobs(u: Tensor) -> int:
    return u.shape[0] * -(-u.shape[2] // BLOCK)


def _array(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()


def _constants(u: Tensor, A: Tensor, D: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """A in base 2 as (d_state, d_inner); D and bias, zero where there is none."""
    zero = u.new_zeros(u.shape[2])
    return A.detach().mT * LOG2E.item(), zero if D is None else D, zero if bias is None else bias


def scan_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    h0: Tensor | None,
    *,
    reverse: bool,
    keep_states: bool,
) -> tuple[Tensor, Tensor]:
    """y and the chunk states that the backward wants; arguments as `scan_reference`, all float32."""
    batch, length, d_inner = u.shape
    d_state = A.shape[1]
    A2, D, bias = _constants(u, A, D, bias)
    start = u.new_zeros(batch, d_state, d_inner) if h0 is None else h0.mT
    chunks = -(-length // CHUNK) if keep_states else 0
    y, states = torch.empty(u.shape), torch.empty(batch, chunks, d_state, d_inner)
    inputs = [_array(x) for x in (u, delta, A2, B, C, D, bias, start)]
    run_jobs(_scan_block, _jobs(u), *inputs, y.numpy(), states.numpy(), reverse)
    return y, states


def scan_backward(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    bias: Tensor | None,
    states: Tensor,
    *,
    reverse: bool,
    wanted: tuple[bool, ...],
) -> list[Tensor | None]:
    """Gradients of u, delta, A, B, C, D, bias, h0, in this order; None, and no work, where not wanted."""
    batch, length, d_inner = u.shape
    d_state = A.shape[1]
    blocks = -(-d_inner // BLOCK)
    A2, D, bias = _constants(u, A, D, bias)
    per_token, per_step = (batch, length, d_inner), (blocks, batch, length, d_state)
    per_state, per_channel = (batch, d_state, d_inner), (batch, d_inner)
    shapes = [per_token, per_token, per_state, per_step, per_step, per_channel, per_channel, per_state]
    grads = [torch.empty(s if want else (0,) * len(s)) for s, want in zip(shapes, wanted, strict=True)]
    du, ddelta, dA, dB, dC, dD, dbias, dh0 = (x.numpy() for x in grads)
    inputs = [_array(x) for x in (dy, u, delta, A2, B, C, D, bias, states)]
    run_jobs(_scan_block_backward, _jobs(u), *inputs, du, ddelta, dB, dC, dA, dD, dbias, dh0, reverse)
    finish: list[Callable[[Tensor], Tensor]] = [
        lambda x: x,
        lambda x: x,
        lambda x: x.sum(0).mT,
        lambda x: x.sum(0),
        lambda x: x.sum(0),
        lambda x: x.sum(0),
        lambda x: x.sum(0),
        lambda x: x.mT,
    ]
    return [f(x) if want else None for f, x, want in zip(finish, grads, wanted, strict=True)]
