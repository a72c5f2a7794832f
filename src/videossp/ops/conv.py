"""`conv_silu`: causal convolution and SiLU of both directions, in one pass over the sequence."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from videossp.ops.dispatch import fits_a_grid, fused, fused_on_gpu, once_differentiable
from videossp.ops.reference import conv_reference
from videossp.ops.simd import kernel, kernel_array, narrow, prefetch, sigmoid, use_widest_vectors, widen
from videossp.ops.threads import run_jobs

BLOCK = 96  # channels of one job
TAPS = 4  # kernel width of the published models; other widths use the reference
RING, RING_MASK = (
    8,
    7,
)  # a ring of rows: the current one, 3 before and 3 after; row t is at index t & RING_MASK
AHEAD = 2  # rows between the prefetch of a row and its use


@kernel()
def _conv_block(job, x, weight, bias, u, u_b):
    """Convolve one block of channels of one clip. weight is (2, TAPS, d_inner), bias (2, d_inner)."""
    use_widest_vectors()
    length, d_inner = x.shape[1], weight.shape[2]
    blocks = (d_inner + BLOCK - 1) // BLOCK
    batch, first = job // blocks, job % blocks * BLOCK
    last = min(first + BLOCK, d_inner)
    width = last - first
    w, shift = np.zeros((2, TAPS, BLOCK), np.float32), np.zeros((2, BLOCK), np.float32)
    w[:, :, :width], shift[:, :width] = weight[:, :, first:last], bias[:, first:last]
    ring = np.zeros((RING, BLOCK), np.float32)
    out = np.zeros((2, BLOCK), np.float32)
    for t in range(1 - TAPS, length):
        new = t + TAPS - 1  # the last row that row t depends on
        if new + AHEAD < length:
            prefetch(x, batch, new + AHEAD, first, width)
        if new < length:
            x_new = x[batch, new, first:last]
            for c in range(width):
                ring[new & RING_MASK, c] = widen(x_new[c])
        else:
            ring[new & RING_MASK, :] = np.float32(0.0)
        if t < 0:
            continue
        if t + AHEAD < length:
            prefetch(u, batch, t + AHEAD, first, width)
            prefetch(u_b, batch, t + AHEAD, first, width)
        p3, p2, p1, current = (
            ring[(t - 3) & RING_MASK],
            ring[(t - 2) & RING_MASK],
            ring[(t - 1) & RING_MASK],
            ring[t & RING_MASK],
        )
        n1, n2, n3 = ring[(t + 1) & RING_MASK], ring[(t + 2) & RING_MASK], ring[(t + 3) & RING_MASK]
        for c in range(BLOCK):
            v = (
                w[0, 0, c] * p3[c]
                + w[0, 1, c] * p2[c]
                + w[0, 2, c] * p1[c]
                + w[0, 3, c] * current[c]
                + shift[0, c]
            )
            out[0, c] = v * sigmoid(v)
        for c in range(BLOCK):
            v = (
                w[1, 0, c] * n3[c]
                + w[1, 1, c] * n2[c]
                + w[1, 2, c] * n1[c]
                + w[1, 3, c] * current[c]
                + shift[1, c]
            )
            out[1, c] = v * sigmoid(v)
        u_t, u_b_t = u[batch, t, first:last], u_b[batch, t, first:last]
        for c in range(width):
            u_t[c] = narrow(u, out[0, c])
        for c in range(width):
            u_b_t[c] = narrow(u_b, out[1, c])


@kernel(inline="always")
def _silu_slope(v):
    """Derivative of v sigmoid(v)."""
    s = sigmoid(v)
    return s * (np.float32(1.0) + v * (np.float32(1.0) - s))


@kernel()
def _conv_block_backward(job, du, du_b, x, weight, bias, dx, dweight, dbias):
    """Gradients of one clip and block of channels.

    dweight is (batch, 2, TAPS, d_inner), dbias (batch, 2, d_inner); an empty array is not wanted.

    Row t yields the gradient before the activation; the gradient of x is complete three rows later.
    """
    use_widest_vectors()
    length, d_inner = x.shape[1], weight.shape[2]
    blocks = (d_inner + BLOCK - 1) // BLOCK
    batch, first = job // blocks, job % blocks * BLOCK
    last = min(first + BLOCK, d_inner)
    width = last - first
    w, shift = np.zeros((2, TAPS, BLOCK), np.float32), np.zeros((2, BLOCK), np.float32)
    w[:, :, :width], shift[:, :width] = weight[:, :, first:last], bias[:, first:last]
    gw, gb = np.zeros((2, TAPS, BLOCK), np.float32), np.zeros((2, BLOCK), np.float32)
    ring = np.zeros((RING, BLOCK), np.float32)
    g, g_b = np.zeros((RING, BLOCK), np.float32), np.zeros((RING, BLOCK), np.float32)
    out = np.zeros(BLOCK, np.float32)
    for t in range(1 - TAPS, length + TAPS - 1):
        new = t + TAPS - 1
        if new + AHEAD < length:
            prefetch(x, batch, new + AHEAD, first, width)
        if new < length:
            x_new = x[batch, new, first:last]
            for c in range(width):
                ring[new & RING_MASK, c] = widen(x_new[c])
        else:
            ring[new & RING_MASK, :] = np.float32(0.0)
        if t < 0:
            continue
        now = t & RING_MASK
        if t < length:
            if t + AHEAD < length:
                prefetch(du, batch, t + AHEAD, first, width)
                prefetch(du_b, batch, t + AHEAD, first, width)
            du_t, du_b_t = du[batch, t, first:last], du_b[batch, t, first:last]
            for c in range(width):
                g[now, c], g_b[now, c] = widen(du_t[c]), widen(du_b_t[c])
            p3, p2, p1, current = (
                ring[(t - 3) & RING_MASK],
                ring[(t - 2) & RING_MASK],
                ring[(t - 1) & RING_MASK],
                ring[now],
            )
            n1, n2, n3 = ring[(t + 1) & RING_MASK], ring[(t + 2) & RING_MASK], ring[(t + 3) & RING_MASK]
            for c in range(BLOCK):
                v = w[0, 0, c] * p3[c] + w[0, 1, c] * p2[c] + w[0, 2, c] * p1[c] + w[0, 3, c] * current[c]
                g[now, c] *= _silu_slope(v + shift[0, c])
            for c in range(BLOCK):
                v = w[1, 0, c] * n3[c] + w[1, 1, c] * n2[c] + w[1, 2, c] * n1[c] + w[1, 3, c] * current[c]
                g_b[now, c] *= _silu_slope(v + shift[1, c])
            if dweight.size > 0:
                for k in range(TAPS):
                    before, after = ring[(t - 3 + k) & RING_MASK], ring[(t + 3 - k) & RING_MASK]
                    for c in range(BLOCK):
                        gw[0, k, c] += g[now, c] * before[c]
                        gw[1, k, c] += g_b[now, c] * after[c]
            if dbias.size > 0:
                for c in range(BLOCK):
                    gb[0, c] += g[now, c]
                    gb[1, c] += g_b[now, c]
        else:
            g[now, :] = np.float32(0.0)
            g_b[now, :] = np.float32(0.0)
        done = t - (TAPS - 1)
        if done < 0 or dx.size == 0:
            continue
        if done + AHEAD < length:
            prefetch(dx, batch, done + AHEAD, first, width)
        g0, g1, g2, g3 = g[done & RING_MASK], g[(done + 1) & RING_MASK], g[(done + 2) & RING_MASK], g[now]
        b0, b1, b2, b3 = (
            g_b[done & RING_MASK],
            g_b[(done - 1) & RING_MASK],
            g_b[(done - 2) & RING_MASK],
            g_b[(done - 3) & RING_MASK],
        )
        for c in range(BLOCK):
            out[c] = w[0, 3, c] * g0[c] + w[0, 2, c] * g1[c] + w[0, 1, c] * g2[c] + w[0, 0, c] * g3[c]
        for c in range(BLOCK):
            out[c] += w[1, 3, c] * b0[c] + w[1, 2, c] * b1[c] + w[1, 1, c] * b2[c] + w[1, 0, c] * b3[c]
        dx_done = dx[batch, done, first:last]
        for c in range(width):
            dx_done[c] = narrow(dx, out[c])
    if dweight.size > 0:
        dweight[batch, :, :, first:last] = gw[:, :, :width]
    if dbias.size > 0:
        dbias[batch, :, first:last] = gb[:, :width]


def _stack(*tensors: Tensor) -> np.ndarray:
    """Stack both directions: weights (d_inner, 1, TAPS) to (2, TAPS, d_inner), biases to (2, d_inner)."""
    return torch.stack([x.detach().float().reshape(x.shape[0], -1).mT for x in tensors]).squeeze(1).numpy()


class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, weight_b: Tensor, bias_b: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weight, bias, weight_b, bias_b)
        u, u_b = x.new_empty(x.shape), x.new_empty(x.shape)
        jobs = x.shape[0] * -(-x.shape[2] // BLOCK)
        constants = _stack(weight, weight_b), _stack(bias, bias_b)
        run_jobs(_conv_block, jobs, kernel_array(x), *constants, kernel_array(u), kernel_array(u_b))
        return u, u_b

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, du: Tensor, du_b: Tensor) -> Any:
        x, weight, bias, weight_b, bias_b = ctx.saved_tensors
        batch, _, d_inner = x.shape
        for_x, *for_parameters = ctx.needs_input_grad
        for_weight, for_bias = (any(for_parameters[i::2]) for i in range(2))
        dx = x.new_empty(x.shape if for_x else (0, 0, 0))
        dweight = torch.empty(batch if for_weight else 0, 2, TAPS, d_inner, dtype=torch.float32)
        dbias = torch.empty(batch if for_bias else 0, 2, d_inner, dtype=torch.float32)
        constants = _stack(weight, weight_b), _stack(bias, bias_b)
        jobs = batch * -(-d_inner // BLOCK)
        outputs = kernel_array(dx), dweight.numpy(), dbias.numpy()
        inputs = (kernel_array(t) for t in (du, du_b, x))
        run_jobs(_conv_block_backward, jobs, *inputs, *constants, *outputs)
        grads = []
        for q, (w, b) in enumerate(((weight, bias), (weight_b, bias_b))):
            grads.append(dweight[:, q].sum(0).mT.reshape(w.shape) if for_parameters[2 * q] else None)
            grads.append(dbias[:, q].sum(0).reshape(b.shape) if for_parameters[2 * q + 1] else None)
        return dx if for_x else None, *grads


def conv_silu(
    x: Tensor, weight: Tensor, bias: Tensor, weight_b: Tensor, bias_b: Tensor
) -> tuple[Tensor, Tensor]:
    """Causal depthwise convolution and SiLU, forward and backward in time, as `conv_reference`.

    Args:
        x: (batch, length, d_inner).
        weight, bias: (d_inner, 1, d_conv) and (d_inner,), of the forward direction.
        weight_b, bias_b: the same of the backward direction.

    Returns:
        Two tensors (batch, length, d_inner), forward and backward.
    """
    inputs = x, weight, bias, weight_b, bias_b
    out: tuple[Tensor, Tensor]
    if weight.shape[-1] == TAPS and fused_on_gpu(*inputs) and fits_a_grid(x.shape[0]):
        from videossp.ops.triton_operators import conv_silu_operator

        out = conv_silu_operator(*inputs)
        return out
    if weight.shape[-1] != TAPS or not fused(*inputs):
        return conv_reference(x, weight, bias), conv_reference(x, weight_b, bias_b, reverse=True)
    out = _ConvSilu.apply(*inputs)
    return out
