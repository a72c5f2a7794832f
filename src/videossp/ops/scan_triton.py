"""Triton kernels of the selective scan for a GPU, forward and backward; `scan_reference` is the definition.

Sequences are channels last. One program is one warp. It walks through a segment of one clip for BLOCK
channels and holds their states, (NP, BLOCK) floats, in registers. A segment is a multiple of CHUNK steps. If
batch and channels alone do not fill the GPU, a sequence is cut into several segments, which run side by side:

    ends      each segment from a state of zero: its last state, and the sum of its steps dt
    carry     the states in which the segments start, one after the other; exp(A sum dt) is a segment's decay
    forward   each segment from its true start: y, and for a backward the state at the start of every chunk

The backward does the same with the gradient of the state, from the last step to the first:

    ends      (BACK) the gradient that leaves each segment at its first step, from zero at its last
    carry     (BACK) the gradients that enter the segments
    backward  per chunk: its states again, from the stored one, every SUB-th to scratch memory; then, SUB
              steps at a time, their states and decays in registers and the walk back

docs/gpu.md has the reasons, and the registers that the kernels take. With e_t = exp(dt_t A), and r_t the
gradient of the state before step t (zero past the end):

    g_t  = dy_t C_t + r_(t+1)      r_t = e_t g_t          h_t = e_t h_(t-1) + dt_t u_t B_t
    dC_t = sum_c dy_t h_t          dB_t = sum_c g_t dt_t u_t
    d(dt u)_t = sum_n g_t B_t      d(dt)_t = sum_n r_t h_(t-1) A + d(dt u)_t u_t
    du_t = d(dt u)_t dt_t + dy_t D          ddelta_t = d(dt)_t sigmoid(delta_t + bias)
    dA = sum_t r_t h_(t-1) dt_t    dD = sum_t dy_t u_t    dbias = sum_t ddelta_t    dh0 = r_1

Nothing is added atomically, so results are the same from run to run.
"""

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from videossp.ops.scan_cpu import CHUNK, states_shape
from videossp.ops.triton_launch import cover, on_device_of, processors, rows, warp
from videossp.ops.triton_math import LN2, LOG2E, sigmoid, softplus

UNROLL = 4  # steps in the body of a loop over time
FILL = 16  # programs per multiprocessor, from which on sequences are not cut


@triton.jit
def _tile(x, n, c, pitch, inside):
    """(NP, BLOCK) of x (states, channels). The layout of this load becomes that of the states.

    A thread gets one channel with all its states, because `pitch` is in `do_not_specialize`: the sums over
    states then need no exchange between threads. If Triton knew that it is a multiple of 16, it would load
    four channels at once, and a thread would get 4 states x 4 channels. That suits the backward, whose sums
    are over channels.
    """
    return tl.load(x + n[:, None] * pitch + c[None, :], mask=inside, other=0.0)


@triton.jit(do_not_specialize=["length", "pitch"])
def ends_kernel(
    x, delta, At, BC, bias, end, total,
    length, seg_len, d_inner, pitch, x_b, x_t, delta_b, delta_t,
    N: tl.constexpr, NP: tl.constexpr, BLOCK: tl.constexpr, REVERSE: tl.constexpr, BACK: tl.constexpr,
    HAS_BIAS: tl.constexpr, EVEN: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """A segment from zero: its last state, or (BACK, x is dy) the gradient that leaves it; its sum of dt."""
    cb, b, seg = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    c, n = cb * BLOCK + tl.arange(0, BLOCK), tl.arange(0, NP)
    real = c < d_inner if not EVEN else tl.full((BLOCK,), True, tl.int1)
    inside = (n[:, None] < N) & real[None, :]
    a = _tile(At, n, c, pitch, inside)
    h = tl.zeros_like(a)
    shift = tl.load(bias + c, mask=real, other=0.0) if HAS_BIAS else tl.zeros((BLOCK,), tl.float32)
    sum_dt = tl.zeros((BLOCK,), tl.float32)
    xs, deltas = x + b * x_b + c, delta + b * delta_b + c
    steps = BC + b * length * (2 * NP) + (NP if BACK else 0) + n
    first = seg * seg_len
    count = tl.minimum(seg_len, length - first)
    for i in tl.range(0, count, loop_unroll_factor=UNROLL):
        s = first + (count - 1 - i if BACK else i)
        t = length - 1 - s if REVERSE else s
        v = tl.load(deltas + t * delta_t, mask=real, other=0.0).to(tl.float32) + shift
        x_now = tl.load(xs + t * x_t, mask=real, other=0.0).to(tl.float32)
        k = tl.load(steps + t * (2 * NP))
        dt = softplus(v)
        sum_dt += dt
        e = tl.exp2(dt[None, :] * a)
        h = e * (h + x_now[None, :] * k[:, None]) if BACK else e * h + (dt * x_now)[None, :] * k[:, None]
    place = (b * tl.num_programs(2) + seg) * d_inner
    tl.store(end + place * N + n[:, None] * pitch + c[None, :], h, mask=inside)
    tl.store(total + place + c, sum_dt, mask=real)


@triton.jit(do_not_specialize=["segs"])
def carry_kernel(
    start, end, total, At, segs, d_inner,
    N: tl.constexpr, NP: tl.constexpr, BLOCK: tl.constexpr, BACK: tl.constexpr, HAS_START: tl.constexpr,
    EVEN: tl.constexpr,
):  # fmt: skip
    """In place of the end of each segment, what enters it: states from first to last, or gradients (BACK)."""
    cb, b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    c, n = cb * BLOCK + tl.arange(0, BLOCK), tl.arange(0, NP)
    real = c < d_inner if not EVEN else tl.full((BLOCK,), True, tl.int1)
    inside = (n[:, None] < N) & real[None, :]
    spot = n[:, None] * d_inner + c[None, :]
    a = tl.load(At + spot, mask=inside, other=0.0)
    h = tl.load(start + b * N * d_inner + spot, mask=inside, other=0.0) if HAS_START else tl.zeros_like(a)
    here = b * segs + (segs - 1 if BACK else 0)
    coming = tl.load(end + here * N * d_inner + spot, mask=inside, other=0.0)
    dt = tl.load(total + here * d_inner + c, mask=real, other=0.0)
    for i in range(segs):
        # What the next step of the loop needs is asked for before this one waits.
        after = tl.minimum(i + 1, segs - 1)
        soon = b * segs + (segs - 1 - after if BACK else after)
        coming_soon = tl.load(end + soon * N * d_inner + spot, mask=inside, other=0.0)
        dt_soon = tl.load(total + soon * d_inner + c, mask=real, other=0.0)
        tl.store(end + here * N * d_inner + spot, h, mask=inside)
        h = tl.exp2(dt[None, :] * a) * h + coming
        here, coming, dt = soon, coming_soon, dt_soon


@triton.jit(do_not_specialize=["length", "pitch"])
def forward_kernel(
    u, delta, At, BC, D, bias, start, y, states,
    length, seg_len, d_inner, pitch, u_b, u_t, delta_b, delta_t,
    N: tl.constexpr, NP: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, REVERSE: tl.constexpr,
    HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_START: tl.constexpr, KEEP: tl.constexpr,
    EVEN: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """A segment from its start: y, and with KEEP the states at the start of its chunks."""
    cb, b, seg = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    c, n = cb * BLOCK + tl.arange(0, BLOCK), tl.arange(0, NP)
    real = c < d_inner if not EVEN else tl.full((BLOCK,), True, tl.int1)
    inside = (n[:, None] < N) & real[None, :]
    a = _tile(At, n, c, pitch, inside)
    if HAS_START:
        h = _tile(start + (b * tl.num_programs(2) + seg) * N * d_inner, n, c, pitch, inside)
    else:
        h = tl.zeros_like(a)
    shift = tl.load(bias + c, mask=real, other=0.0) if HAS_BIAS else tl.zeros((BLOCK,), tl.float32)
    skip = tl.load(D + c, mask=real, other=0.0) if HAS_D else tl.zeros((BLOCK,), tl.float32)
    us, deltas, ys = u + b * u_b + c, delta + b * delta_b + c, y + b * length * d_inner + c
    steps = BC + b * length * (2 * NP) + n
    first = seg * seg_len
    stop = tl.minimum(first + seg_len, length)
    # What the next step needs is asked for before this one stores: a load does not overtake a store.
    begin = length - 1 - first if REVERSE else first
    delta_soon = tl.load(deltas + begin * delta_t, mask=real, other=0.0)
    u_soon = tl.load(us + begin * u_t, mask=real, other=0.0)
    for chunk in range(first // CHUNK, tl.cdiv(stop, CHUNK)):
        if KEEP:
            kept = states + (b * tl.cdiv(length, CHUNK) + chunk) * N * d_inner
            tl.store(kept + n[:, None] * pitch + c[None, :], h, mask=inside)
        for s in tl.range(chunk * CHUNK, tl.minimum(chunk * CHUNK + CHUNK, stop), loop_unroll_factor=UNROLL):
            v, x = delta_soon.to(tl.float32) + shift, u_soon.to(tl.float32)
            after = tl.minimum(s + 1, stop - 1)
            soon = length - 1 - after if REVERSE else after
            delta_soon = tl.load(deltas + soon * delta_t, mask=real, other=0.0)
            u_soon = tl.load(us + soon * u_t, mask=real, other=0.0)
            t = length - 1 - s if REVERSE else s
            into = tl.load(steps + t * (2 * NP))
            out = tl.load(steps + t * (2 * NP) + NP)
            dt = softplus(v)
            h = tl.exp2(dt[None, :] * a) * h + (dt * x)[None, :] * into[:, None]
            y_now = tl.sum(h * out[:, None], 0) + skip * x
            tl.store(ys + t * d_inner, y_now.to(y.dtype.element_ty), mask=real)


@triton.jit(do_not_specialize=["length"])
def backward_kernel(
    dy, u, delta, At, BC, D, bias, states, enter, scratch,
    du, ddelta, dB, dC, dA, dD, dbias, dh0,
    length, seg_len, d_inner, dy_b, dy_t, u_b, u_t, delta_b, delta_t,
    N: tl.constexpr, NP: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, SUB: tl.constexpr,
    REVERSE: tl.constexpr, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_ENTER: tl.constexpr,
    FOR_U: tl.constexpr, FOR_DELTA: tl.constexpr, FOR_B: tl.constexpr, FOR_C: tl.constexpr,
    FOR_A: tl.constexpr, FOR_D: tl.constexpr, FOR_BIAS: tl.constexpr, FOR_H0: tl.constexpr,
    EVEN: tl.constexpr,
):  # fmt: skip
    """All gradients of a segment. dB and dC have a part per block of channels, dA, dD, dbias per segment."""
    cb, b, seg = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    batch, segs = tl.num_programs(1), tl.num_programs(2)
    c, n = cb * BLOCK + tl.arange(0, BLOCK), tl.arange(0, NP)
    real = c < d_inner if not EVEN else tl.full((BLOCK,), True, tl.int1)
    inside = (n[:, None] < N) & real[None, :]
    spot = n[:, None] * d_inner + c[None, :]
    a = tl.load(At + spot, mask=inside, other=0.0)
    if HAS_ENTER:
        r = tl.load(enter + (b * segs + seg) * N * d_inner + spot, mask=inside, other=0.0)
    else:
        r = tl.zeros_like(a)
    shift = tl.load(bias + c, mask=real, other=0.0) if HAS_BIAS else tl.zeros((BLOCK,), tl.float32)
    skip = tl.load(D + c, mask=real, other=0.0) if HAS_D else tl.zeros((BLOCK,), tl.float32)
    sum_a, sum_d, sum_bias = tl.zeros_like(a), tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    us, deltas, dys = u + b * u_b + c, delta + b * delta_b + c, dy + b * dy_b + c
    dus, ddeltas = du + b * length * d_inner + c, ddelta + b * length * d_inner + c
    steps = BC + b * length * (2 * NP) + n
    slot = (cb * batch + b) * length * N + n
    own = scratch + ((b * segs + seg) * tl.num_programs(0) + cb) * (CHUNK // SUB * NP * BLOCK)
    own += n[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    first = seg * seg_len // CHUNK
    chunks = tl.cdiv(length, CHUNK)
    last = tl.minimum(first + seg_len // CHUNK, chunks) - 1
    for back in range(0, last - first + 1):
        chunk = last - back
        h = tl.load(states + (b * chunks + chunk) * N * d_inner + spot, mask=inside, other=0.0)
        subs = tl.cdiv(tl.minimum(CHUNK, length - chunk * CHUNK), SUB)
        tl.store(own, h)
        # The loads of SUB steps come first, to wait for them once: none overtakes a store or a barrier.
        for j in range(1, subs):
            vs, xs, intos = (), (), ()
            for i in tl.static_range(SUB):
                s = chunk * CHUNK + (j - 1) * SUB + i
                t = length - 1 - s if REVERSE else s
                v = tl.load(deltas + t * delta_t, mask=real, other=0.0)
                x = tl.load(us + t * u_t, mask=real, other=0.0)
                into = tl.load(steps + t * (2 * NP))
                vs, xs, intos = vs + (v,), xs + (x,), intos + (into,)  # type: ignore[assignment]
            for i in tl.static_range(SUB):
                dt = softplus(vs[i].to(tl.float32) + shift)
                dtx = dt * xs[i].to(tl.float32)
                h = tl.exp2(dt[None, :] * a) * h + dtx[None, :] * intos[i][:, None]
            tl.store(own + j * (NP * BLOCK), h)
        tl.debug_barrier()  # what one thread has stored another may load
        for k in range(subs):
            base = chunk * CHUNK + (subs - 1 - k) * SUB
            h = tl.load(own + (subs - 1 - k) * (NP * BLOCK))
            before, decays, dts, slopes, vs, xs, gys, intos = (), (), (), (), (), (), (), ()
            for i in tl.static_range(SUB):
                s = base + i
                there, there_n = s + 0 * c < length, s + 0 * n < length  # vectors: a lone bool makes no mask
                t = length - 1 - s if REVERSE else s
                v = tl.load(deltas + t * delta_t, mask=real & there, other=0.0)
                x = tl.load(us + t * u_t, mask=real & there, other=0.0)
                gy = tl.load(dys + t * dy_t, mask=real & there, other=0.0)
                into = tl.load(steps + t * (2 * NP), mask=there_n, other=0.0)
                vs, xs = vs + (v,), xs + (x,)  # type: ignore[assignment]
                gys, intos = gys + (gy,), intos + (into,)  # type: ignore[assignment]
            for i in tl.static_range(SUB):
                # A step past the end changes nothing: r and dy are still zero there.
                v = vs[i].to(tl.float32) + shift
                dt = softplus(v)
                e = tl.exp2(dt[None, :] * a)
                before, decays = before + (h,), decays + (e,)
                dts, slopes = dts + (dt,), slopes + (sigmoid(v),)
                dtx = dt * xs[i].to(tl.float32)
                h = e * h + dtx[None, :] * intos[i][:, None]
            for i in tl.static_range(SUB):
                s = base + (SUB - 1 - i)
                there, there_n = s + 0 * c < length, s + 0 * n < length
                t = length - 1 - s if REVERSE else s
                dt, x = dts[SUB - 1 - i], xs[SUB - 1 - i].to(tl.float32)
                gy = gys[SUB - 1 - i].to(tl.float32)
                into = tl.load(steps + t * (2 * NP), mask=there_n, other=0.0)
                out = tl.load(steps + t * (2 * NP) + NP, mask=there_n, other=0.0)
                g = gy[None, :] * out[:, None] + r
                if FOR_C:
                    tl.store(dC + slot + t * N, tl.sum(h * gy[None, :], 1), mask=(n < N) & there_n)
                if FOR_B:
                    tl.store(dB + slot + t * N, tl.sum(g * (dt * x)[None, :], 1), mask=(n < N) & there_n)
                gdtx = tl.sum(g * into[:, None], 0)
                if FOR_U:
                    tl.store(
                        dus + t * d_inner, (gdtx * dt + gy * skip).to(du.dtype.element_ty), mask=real & there
                    )
                h = before[SUB - 1 - i]
                r = g * decays[SUB - 1 - i]
                if FOR_DELTA or FOR_BIAS:
                    ddt = tl.sum(r * h * a, 0) * LN2 + gdtx * x
                    ddelta_now = ddt * slopes[SUB - 1 - i]
                    sum_bias += ddelta_now
                    if FOR_DELTA:
                        tl.store(
                            ddeltas + t * d_inner, ddelta_now.to(ddelta.dtype.element_ty), mask=real & there
                        )
                if FOR_A:
                    sum_a += r * h * dt[None, :]
                if FOR_D:
                    sum_d += gy * x
        tl.debug_barrier()
    place = (b * segs + seg) * d_inner
    if FOR_A:
        tl.store(dA + place * N + spot, sum_a, mask=inside)
    if FOR_D:
        tl.store(dD + place + c, sum_d, mask=real)
    if FOR_BIAS:
        tl.store(dbias + place + c, sum_bias, mask=real)
    if FOR_H0 and seg == 0:
        tl.store(dh0 + b * N * d_inner + spot, r, mask=inside)


@triton.jit(do_not_specialize=["rows", "length", "B_b", "B_t", "B_n", "C_b", "C_t", "C_n"])
def pack_kernel(
    B,
    C,
    out,
    rows,
    length,
    B_b,
    B_t,
    B_n,
    C_b,
    C_t,
    C_n,
    N: tl.constexpr,
    NP: tl.constexpr,
    ROWS: tl.constexpr,
):
    """B and C of a step side by side, (rows, 2, NP) float32, zero beyond N: aligned for loads of vectors."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    n = tl.arange(0, NP)[None, :]
    b, t = r // length, r % length
    mask = (r < rows) & (n < N)
    at = out + r * (2 * NP) + n
    here = (r < rows) & (n < NP)
    tl.store(at, tl.load(B + b * B_b + t * B_t + n * B_n, mask=mask, other=0.0).to(tl.float32), mask=here)
    tl.store(
        at + NP, tl.load(C + b * C_b + t * C_t + n * C_n, mask=mask, other=0.0).to(tl.float32), mask=here
    )


def steps_held(padded: int) -> int:
    """Steps whose states and decays the backward holds in registers: 64 values of each in a thread."""
    return max(1, min(4, 64 // padded))


def segments(batch: int, length: int, blocks: int, processors: int, chunk: int) -> tuple[int, int]:
    """The number of segments that a sequence is cut into, and the steps of one, a multiple of `chunk`."""
    chunks = cover(length, chunk)
    wanted = max(1, min(chunks, FILL * processors // max(1, batch * blocks)))
    each = cover(chunks, wanted)
    return cover(chunks, each), each * chunk


class _Launch:
    """What the kernels of one scan share: their grid, constants and common inputs.

    Args:
        u, A, B, C, delta, bias: as in `scan_reference`.
        reverse: the direction.
        chunk: steps between stored states.
        cut: (segments, steps of one), or None for `segments`.
    """

    def __init__(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        bias: Tensor | None,
        *,
        reverse: bool,
        chunk: int,
        cut: tuple[int, int] | None,
    ) -> None:
        self.batch, self.length, self.d_inner = u.shape
        self.d_state = A.shape[1]
        lanes = warp(u.device)
        self.padded = int(triton.next_power_of_2(self.d_state))
        self.blocks = cover(self.d_inner, lanes)
        self.count, self.each = cut or segments(
            self.batch, self.length, self.blocks, processors(u.device), chunk
        )
        self.grid = self.blocks, self.batch, self.count
        self.delta, self.bias, self.reverse = rows(delta), bias, reverse
        self.At = torch.mul(A.mT, LOG2E.value, out=A.new_empty(self.d_state, self.d_inner))
        self.steps = A.new_empty(self.batch, self.length, 2, self.padded)
        total, each = self.batch * self.length, max(1, 1024 // self.padded)
        strides = *B.stride(), *C.stride()
        sizes = {"N": self.d_state, "NP": self.padded}
        pack_kernel[(cover(total, each),)](
            B, C, self.steps, total, self.length, *strides, ROWS=each, num_warps=4, **sizes
        )
        self.sizes: dict[str, Any] = sizes | {
            "BLOCK": lanes,
            "EVEN": self.d_inner % lanes == 0,
            "num_warps": 1,
        }

    def or_any(self, x: Tensor | None) -> Tensor:
        """x, contiguous, or for an argument that the kernel does not use, some tensor."""
        return self.At if x is None else x.contiguous()

    def enter(self, x: Tensor, start: Tensor | None, *, back: bool) -> Tensor | None:
        """What enters each segment, (batch, segments, d_state, d_inner): states, or gradients if x is dy.

        None if that is zero everywhere. start is (batch, d_state, d_inner).
        """
        if self.count == 1:
            return start
        end = self.At.new_empty(self.batch, self.count, self.d_state, self.d_inner)
        total = self.At.new_empty(self.batch, self.count, self.d_inner)
        strides = x.stride(0), x.stride(1), self.delta.stride(0), self.delta.stride(1)
        has_bias = self.bias is not None
        ends_kernel[self.grid](
            *(x, self.delta, self.At, self.steps, self.or_any(self.bias), end, total),
            *(self.length, self.each, self.d_inner, self.d_inner, *strides),
            **{"REVERSE": self.reverse, "BACK": back, "HAS_BIAS": has_bias, "UNROLL": UNROLL, **self.sizes},
        )
        carry_kernel[self.grid[:2]](
            *(self.or_any(start), end, total, self.At, self.count, self.d_inner),
            **{"BACK": back, "HAS_START": start is not None, **self.sizes},
        )
        return end


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
    chunk: int = CHUNK,
    cut: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """As `scan_cpu.scan_forward`, for up to MOST_STATES states; only tests give `chunk` and `cut`."""
    with on_device_of(u):
        launch = _Launch(u, delta, A, B, C, bias, reverse=reverse, chunk=chunk, cut=cut)
        u, delta = rows(u), launch.delta
        y = u.new_empty(u.shape)
        batch, _, *shape = states_shape(u.shape, A.shape[1], keep_states)
        states = A.new_empty(batch, cover(u.shape[1], chunk) if keep_states else 0, *shape)
        start = launch.enter(u, None if h0 is None else h0.mT.contiguous(), back=False)
        given = {"HAS_D": D is not None, "HAS_BIAS": bias is not None, "HAS_START": start is not None}
        forward_kernel[launch.grid](
            *(u, delta, launch.At, launch.steps, *map(launch.or_any, (D, bias, start)), y, states),
            *(launch.length, launch.each, launch.d_inner, launch.d_inner),
            *(u.stride(0), u.stride(1), delta.stride(0), delta.stride(1)),
            **{"CHUNK": chunk, "REVERSE": reverse, "KEEP": keep_states, "UNROLL": UNROLL},
            **given,
            **launch.sizes,
        )
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
    chunk: int = CHUNK,
    cut: tuple[int, int] | None = None,
) -> list[Tensor | None]:
    """As `scan_cpu.scan_backward`; `chunk` and `cut` as in the forward."""
    with on_device_of(u):
        launch = _Launch(u, delta, A, B, C, bias, reverse=reverse, chunk=chunk, cut=cut)
        dy, u, delta = rows(dy), rows(u), launch.delta
        batch, length, d_inner = u.shape
        enter = launch.enter(dy, None, back=True)
        # A part per segment or per block of channels; their sums have an order, unlike atomic additions.
        per_step = launch.blocks, batch, length, launch.d_state
        per_state, per_channel = (
            (batch, launch.count, launch.d_state, d_inner),
            (batch, launch.count, d_inner),
        )
        shapes: list[tuple[int, ...]] = [u.shape, u.shape, per_state, per_step, per_step]
        shapes += [per_channel, per_channel, (batch, launch.d_state, d_inner)]
        dtypes = [u.dtype, delta.dtype] + 6 * [torch.float32]
        grads = [
            u.new_empty(shape, dtype=dtype) if want else None
            for shape, dtype, want in zip(shapes, dtypes, wanted, strict=True)
        ]
        du, ddelta, dA, dB, dC, dD, dbias, dh0 = map(launch.or_any, grads)
        held = steps_held(launch.padded)
        programs = batch * launch.count * launch.blocks
        scratch = launch.At.new_empty(programs, cover(chunk, held), launch.padded, launch.sizes["BLOCK"])
        names = ("FOR_U", "FOR_DELTA", "FOR_A", "FOR_B", "FOR_C", "FOR_D", "FOR_BIAS", "FOR_H0")
        given = {"HAS_D": D is not None, "HAS_BIAS": bias is not None, "HAS_ENTER": enter is not None}
        strides = [x.stride(i) for x in (dy, u, delta) for i in (0, 1)]
        backward_kernel[launch.grid](
            *(dy, u, delta, launch.At, launch.steps, launch.or_any(D), launch.or_any(bias), states),
            *(launch.or_any(enter), scratch, du, ddelta, dB, dC, dA, dD, dbias, dh0),
            *(length, launch.each, d_inner, *strides),
            **{"CHUNK": chunk, "SUB": held, "REVERSE": reverse},
            **given,
            **dict(zip(names, wanted, strict=True)),
            **launch.sizes,
        )
        finish: list[Callable[[Tensor], Tensor]] = [
            lambda x: x,
            lambda x: x,
            lambda x: x.sum((0, 1)).mT.contiguous(),
            lambda x: x.sum(0),
            lambda x: x.sum(0),
            lambda x: x.sum((0, 1)),
            lambda x: x.sum((0, 1)),
            lambda x: x.mT.contiguous(),
        ]
        return [None if x is None else f(x) for f, x in zip(finish, grads, strict=True)]
