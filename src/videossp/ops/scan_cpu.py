"""Numba kernels of the selective scan for the CPU, forward and backward: no compiler, no CUDA.

Sequences are channels last, so the innermost loop runs over a block of channels and becomes vector
instructions. A job is one block of channels of one clip; `threads.py` distributes the jobs.
docs/scan.md has the mathematics, the reasons and the measurements.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from videossp.ops.simd import (
    LOG2E,
    LOWEST,
    exp2,
    exp2_of_product,
    kernel,
    kernel_array,
    larger,
    narrow,
    prefetch,
    sigmoid,
    softplus,
    use_widest_vectors,
    widen,
    work_array,
)
from videossp.ops.threads import run_jobs

# Channels of one job: a divisor of every published d_inner; (d_state, BLOCK) fits into the L1 cache.
BLOCK = 96
MOST_STATES = 1024  # states per channel: the work arrays are on the stack of a thread
CHUNK = 64  # steps between stored states: the states that the backward recomputes fit into the L2 cache
AHEAD = 2  # steps between the prefetch of a row and its use

# Rows of the kernels' work arrays. An inner loop uses two or three arrays with constant offsets: LLVM knows
# that nothing overlaps. With many small arrays it would check all pairs before every loop.
SKIP, ROW_BIAS, DT, DTU, OUT = range(5)  # forward: D, bias; of one step dt, dt u, y
GDT, GY, GDTU, GSKIP, GSHIFT = 2, 4, 5, 6, 7  # backward: gradients of dt, y, dt u of one step; of D and bias
DECAY, STATE = range(2)  # of one channel and state: A log2(e); h
GH, GA = 1, 2  # backward: gradients of h and A
X, SLOPE, DTX = 0, 1, 3  # backward, of one step: u, slope of softplus, dt u; DT as in the forward


@kernel(inline="always")
def _time(step, length, reverse):
    """Position in the sequence of a step of the scan."""
    return length - 1 - step if reverse else step


@kernel()
def _scan_block(job, u, delta, A, B, C, D, bias, h0, y, states, reverse):
    """Scan one block of channels of one clip, in one pass over the sequence with the state in cache.

    h0 is (batch, d_inner, d_state), or empty for zero. states, (batch, chunks, d_state, d_inner) or empty,
    receives the state at the start of each chunk, for the backward.
    """
    use_widest_vectors()
    length, (d_inner, d_state) = u.shape[1], A.shape
    blocks = (d_inner + BLOCK - 1) // BLOCK
    batch, first = job // blocks, job % blocks * BLOCK
    last = min(first + BLOCK, d_inner)
    width = last - first
    row, per_state = work_array((5, BLOCK)), work_array((d_state, 2, BLOCK))
    steepest = work_array((d_state,))
    row[SKIP, :width], row[ROW_BIAS, :width] = D[first:last], bias[first:last]
    for n in range(d_state):
        per_state[n, DECAY, :width] = A[first:last, n] * LOG2E
        steepest[n] = per_state[n, DECAY].min()
        if h0.size > 0:
            per_state[n, STATE, :width] = h0[batch, first:last, n]
    for step in range(length):
        t = _time(step, length, reverse)
        if step + AHEAD < length:
            ahead = _time(step + AHEAD, length, reverse)
            prefetch(u, batch, ahead, first, width)
            prefetch(delta, batch, ahead, first, width)
            prefetch(y, batch, ahead, first, width)
        if states.size > 0 and step % CHUNK == 0:
            for n in range(d_state):
                states[batch, step // CHUNK, n, first:last] = per_state[n, STATE, :width]
        u_t, delta_t, y_t = u[batch, t, first:last], delta[batch, t, first:last], y[batch, t, first:last]
        for c in range(width):
            row[DTU, c], row[DT, c] = widen(u_t[c]), widen(delta_t[c])
        for c in range(BLOCK):
            row[OUT, c] = row[SKIP, c] * row[DTU, c]
            row[DT, c] = softplus(row[DT, c] + row[ROW_BIAS, c])
            row[DTU, c] *= row[DT, c]
        longest = np.float32(0.0)
        for c in range(BLOCK):
            longest = larger(longest, row[DT, c])
        for n in range(d_state):
            b, k = B[batch, t, n], C[batch, t, n]
            if longest * steepest[n] > LOWEST:
                for c in range(BLOCK):
                    e = exp2_of_product(row[DT, c], per_state[n, DECAY, c])
                    state = e * per_state[n, STATE, c] + row[DTU, c] * b
                    per_state[n, STATE, c] = state
                    row[OUT, c] += state * k
            else:
                for c in range(BLOCK):
                    e = exp2(row[DT, c] * per_state[n, DECAY, c])
                    state = e * per_state[n, STATE, c] + row[DTU, c] * b
                    per_state[n, STATE, c] = state
                    row[OUT, c] += state * k
        for c in range(width):
            y_t[c] = narrow(y_t, row[OUT, c])


@kernel()
def _scan_block_backward(
    job, dy, u, delta, A, B, C, D, bias, states, du, ddelta, dB, dC, dA, dD, dbias, dh0, reverse
):
    """Gradients of one block of channels of one clip. Per chunk: recompute the states, then step back.

    dB and dC are (blocks, batch, length, d_state), dA is (batch, d_state, d_inner), dD and dbias are
    (batch, d_inner): one part per job, summed by the caller. An empty array is not wanted.
    """
    use_widest_vectors()
    length, (d_inner, d_state) = u.shape[1], A.shape
    blocks = (d_inner + BLOCK - 1) // BLOCK
    batch, block = job // blocks, job % blocks
    first = block * BLOCK
    last = min(first + BLOCK, d_inner)
    width = last - first
    row, per_state = work_array((8, BLOCK)), work_array((d_state, 3, BLOCK))
    per_step = work_array((CHUNK, 4, BLOCK))
    h = np.zeros((CHUNK + 1, d_state, BLOCK), np.float32)  # before step s, and after it at s + 1
    decay = np.zeros((CHUNK, d_state, BLOCK), np.float32)
    row[SKIP, :width], row[ROW_BIAS, :width] = D[first:last], bias[first:last]
    for n in range(d_state):
        per_state[n, DECAY, :width] = A[first:last, n] * LOG2E
    for chunk in range((length - 1) // CHUNK, -1, -1):
        start = chunk * CHUNK
        steps = min(CHUNK, length - start)
        for n in range(d_state):
            h[0, n, :width] = states[batch, chunk, n, first:last]
        for s in range(steps):
            t = _time(start + s, length, reverse)
            if s + AHEAD < steps:
                ahead = _time(start + s + AHEAD, length, reverse)
                prefetch(u, batch, ahead, first, width)
                prefetch(delta, batch, ahead, first, width)
            u_t, delta_t = u[batch, t, first:last], delta[batch, t, first:last]
            for c in range(width):
                per_step[s, X, c], per_step[s, SLOPE, c] = widen(u_t[c]), widen(delta_t[c])
            for c in range(BLOCK):
                v = per_step[s, SLOPE, c] + row[ROW_BIAS, c]
                per_step[s, SLOPE, c] = sigmoid(v)
                per_step[s, DT, c] = softplus(v)
                per_step[s, DTX, c] = per_step[s, DT, c] * per_step[s, X, c]
            for n in range(d_state):
                b = B[batch, t, n]
                for c in range(BLOCK):
                    e = exp2(per_step[s, DT, c] * per_state[n, DECAY, c])
                    decay[s, n, c] = e
                    h[s + 1, n, c] = e * h[s, n, c] + per_step[s, DTX, c] * b
        for s in range(steps - 1, -1, -1):
            t = _time(start + s, length, reverse)
            if start + s >= AHEAD:
                ahead = _time(start + s - AHEAD, length, reverse)
                prefetch(dy, batch, ahead, first, width)
                if du.size > 0:
                    prefetch(du, batch, ahead, first, width)
                if ddelta.size > 0:
                    prefetch(ddelta, batch, ahead, first, width)
            dy_t = dy[batch, t, first:last]
            for c in range(width):
                row[GY, c] = widen(dy_t[c])
            for c in range(BLOCK):
                row[GDT, c], row[GDTU, c] = np.float32(0.0), np.float32(0.0)
            for n in range(d_state):
                b, k = B[batch, t, n], C[batch, t, n]
                sum_b, sum_c = np.float32(0.0), np.float32(0.0)
                for c in range(BLOCK):
                    gh = per_state[n, GH, c] + row[GY, c] * k
                    sum_c += row[GY, c] * h[s + 1, n, c]
                    sum_b += gh * per_step[s, DTX, c]
                    row[GDTU, c] += gh * b
                    back = gh * decay[s, n, c]
                    per_state[n, GH, c] = back
                    row[GDT, c] += back * h[s, n, c] * per_state[n, DECAY, c]
                if dA.size > 0:
                    for c in range(BLOCK):
                        per_state[n, GA, c] += per_state[n, GH, c] * h[s, n, c] * per_step[s, DT, c]
                if dB.size > 0:
                    dB[block, batch, t, n] = sum_b
                if dC.size > 0:
                    dC[block, batch, t, n] = sum_c
            for c in range(BLOCK):
                # per_state[DECAY] is A log2(e), so the sum is divided by log2(e).
                row[GDT, c] = (row[GDT, c] / LOG2E + row[GDTU, c] * per_step[s, X, c]) * per_step[s, SLOPE, c]
                row[GDTU, c] = row[GDTU, c] * per_step[s, DT, c] + row[GY, c] * row[SKIP, c]
                row[GSKIP, c] += row[GY, c] * per_step[s, X, c]
                row[GSHIFT, c] += row[GDT, c]
            if du.size > 0:
                du_t = du[batch, t, first:last]
                for c in range(width):
                    du_t[c] = narrow(du, row[GDTU, c])
            if ddelta.size > 0:
                ddelta_t = ddelta[batch, t, first:last]
                for c in range(width):
                    ddelta_t[c] = narrow(ddelta, row[GDT, c])
    if dD.size > 0:
        dD[batch, first:last] = row[GSKIP, :width]
    if dbias.size > 0:
        dbias[batch, first:last] = row[GSHIFT, :width]
    for n in range(d_state):
        if dA.size > 0:
            dA[batch, n, first:last] = per_state[n, GA, :width]
        if dh0.size > 0:
            dh0[batch, n, first:last] = per_state[n, GH, :width]


def _jobs(u: Tensor) -> int:
    return u.shape[0] * -(-u.shape[2] // BLOCK)


def _constants(A: Tensor, D: Tensor | None, bias: Tensor | None) -> list[np.ndarray]:
    """A, D and bias as arrays; zeros for a D or bias of None."""
    return [(A.new_zeros(len(A)) if x is None else x).detach().contiguous().numpy() for x in (A, D, bias)]


def states_shape(shape: torch.Size, d_state: int, keep: bool) -> tuple[int, int, int, int]:
    """Shape of the states that the forward stores for the backward, given u (batch, length, d_inner)."""
    batch, length, d_inner = shape
    return batch, -(-length // CHUNK) if keep else 0, d_state, d_inner


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
    """Run the forward kernel.

    Args:
        u, delta: as in `scan_reference`, float32 or bfloat16.
        A, B, C, D, bias, h0, reverse: as in `scan_reference`, float32.
        keep_states: store the states that the backward needs.

    Returns:
        y in the dtype of u, and the states at the start of each chunk, see `states_shape`.
    """
    y = u.new_empty(u.shape)
    states = torch.empty(states_shape(u.shape, A.shape[1], keep_states), dtype=torch.float32)
    sequences = [kernel_array(x) for x in (u, delta)]
    steps = [kernel_array(x) for x in (B, C)]
    decay, skip, shift = _constants(A, D, bias)
    start = (torch.empty(0, 0, 0, dtype=torch.float32) if h0 is None else h0.detach().contiguous()).numpy()
    outputs = kernel_array(y), states.numpy()
    run_jobs(_scan_block, _jobs(u), *sequences, decay, *steps, skip, shift, start, *outputs, reverse)
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
    """Gradients of u, delta, A, B, C, D, bias, h0, in this order; None, without any work, if not wanted.

    Args:
        dy: (batch, length, d_inner), float32 or bfloat16.
        u, delta, A, B, C, D, bias, reverse: as in the forward.
        states: of the forward.
        wanted: for each of the eight gradients.
    """
    batch, length, d_inner = u.shape
    d_state = A.shape[1]
    blocks = -(-d_inner // BLOCK)
    per_token, per_step = (batch, length, d_inner), (blocks, batch, length, d_state)
    per_state, per_channel = (batch, d_state, d_inner), (batch, d_inner)
    shapes = [per_token, per_token, per_state, per_step, per_step, per_channel, per_channel, per_state]
    kinds = [u.dtype, delta.dtype] + 6 * [torch.float32]
    grads = [
        torch.empty(shape if want else (0,) * len(shape), dtype=kind)
        for shape, kind, want in zip(shapes, kinds, wanted, strict=True)
    ]
    du, ddelta = (kernel_array(x) for x in grads[:2])
    dA, dB, dC, dD, dbias, dh0 = (x.numpy() for x in grads[2:])
    sequences = [kernel_array(x) for x in (dy, u, delta)]
    steps = [kernel_array(x) for x in (B, C)]
    decay, skip, shift = _constants(A, D, bias)
    outputs = du, ddelta, dB, dC, dA, dD, dbias, dh0
    run_jobs(
        _scan_block_backward,
        _jobs(u),
        *(*sequences, decay, *steps, skip, shift, states.numpy(), *outputs, reverse),
    )
    finish: list[Callable[[Tensor], Tensor]] = [
        lambda x: x,
        lambda x: x,
        lambda x: x.sum(0).mT.contiguous(),
        lambda x: x.sum(0),
        lambda x: x.sum(0),
        lambda x: x.sum(0),
        lambda x: x.sum(0),
        lambda x: x.mT.contiguous(),
    ]
    return [f(x) if want else None for f, x, want in zip(finish, grads, wanted, strict=True)]
