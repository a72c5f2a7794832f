"""`gate`: the sum of both scan directions, times SiLU(z), in one pass over memory."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.ops.dispatch import fused, fused_on_gpu, learning, once_differentiable
from videossp.ops.simd import kernel, kernel_array, narrow, sigmoid, use_widest_vectors, widen
from videossp.ops.threads import run_jobs

ROWS = 128  # rows of one job


@kernel()
def _gate_rows(job, y, y_b, z, total, out, width):
    """Gate ROWS rows of one clip; total, unless empty, receives y + y_b for the backward."""
    use_widest_vectors()
    length = y.shape[1]
    jobs = (length + ROWS - 1) // ROWS
    batch, start = job // jobs, job % jobs * ROWS
    for t in range(start, min(start + ROWS, length)):
        y_t, y_b_t, z_t, out_t = y[batch, t], y_b[batch, t], z[batch, t], out[batch, t]
        if total.size > 0:
            total_t = total[batch, t]
            for c in range(width):
                total_t[c] = narrow(total, widen(y_t[c]) + widen(y_b_t[c]))
        for c in range(width):
            g = widen(z_t[c])
            out_t[c] = narrow(out, (widen(y_t[c]) + widen(y_b_t[c])) * (g * sigmoid(g)))


@kernel()
def _gate_rows_backward(job, dout, total, z, dy, dz, width):
    use_widest_vectors()
    length = total.shape[1]
    jobs = (length + ROWS - 1) // ROWS
    batch, start = job // jobs, job % jobs * ROWS
    for t in range(start, min(start + ROWS, length)):
        dout_t, total_t, z_t = dout[batch, t], total[batch, t], z[batch, t]
        dy_t, dz_t = dy[batch, t], dz[batch, t]
        for c in range(width):
            g, d = widen(z_t[c]), widen(dout_t[c])
            s = sigmoid(g)
            dy_t[c] = narrow(dy, d * (g * s))
            dz_t[c] = narrow(dz, d * widen(total_t[c]) * s * (np.float32(1.0) + g * (np.float32(1.0) - s)))


def _jobs(x: Tensor) -> int:
    return x.shape[0] * -(-x.shape[1] // ROWS)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, y_b: Tensor, z: Tensor) -> Tensor:
        differentiable = any(ctx.needs_input_grad)
        out, total = y.new_empty(y.shape), y.new_empty(y.shape if differentiable else (0, 0, 0))
        arrays = (kernel_array(x) for x in (y, y_b, z, total, out))
        run_jobs(_gate_rows, _jobs(y), *arrays, y.shape[2])
        ctx.save_for_backward(total, z)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> Any:
        total, z = ctx.saved_tensors
        dy, dz = total.new_empty(total.shape), total.new_empty(total.shape)
        arrays = (kernel_array(x) for x in (dout, total, z, dy, dz))
        run_jobs(_gate_rows_backward, _jobs(total), *arrays, total.shape[2])
        return dy, dy, dz


def gate(y: Tensor, y_b: Tensor, z: Tensor) -> Tensor:
    """(y + y_b) silu(z).

    Args:
        y, y_b: (batch, length, d_inner), outputs of the forward and backward scans.
        z: (batch, length, d_inner).

    Returns:
        (batch, length, d_inner).
    """
    out: Tensor
    if fused_on_gpu(y, y_b, z):
        from videossp.ops.triton_operators import gate_operator

        out = gate_operator(y, y_b, z, learning(y, y_b, z))[0]
        return out
    if not fused(y, y_b, z):
        return (y + y_b) * F.silu(z)
    out = _Gate.apply(y, y_b, z)
    return out
