"""`add_norm`: residual + hidden and its RMS norm, in one pass over memory."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.ops.dispatch import fused, fused_on_gpu, once_differentiable
from videossp.ops.simd import kernel, kernel_array, narrow, use_widest_vectors, widen
from videossp.ops.threads import run_jobs

ROWS = 128  # rows of one job


@kernel()
def _norm_rows(job, residual, hidden, weight, eps, total, x, scale):
    """Add and normalise ROWS rows of one clip; scale (batch, length) receives 1 / sqrt(mean square + eps)."""
    use_widest_vectors()
    (length, width), jobs = total.shape[1:], (total.shape[1] + ROWS - 1) // ROWS
    batch, start = job // jobs, job % jobs * ROWS
    for t in range(start, min(start + ROWS, length)):
        residual_t, hidden_t, total_t, x_t = (
            residual[batch, t],
            hidden[batch, t],
            total[batch, t],
            x[batch, t],
        )
        square = np.float32(0.0)
        for c in range(width):
            v = residual_t[c] + widen(hidden_t[c])
            total_t[c] = v
            square += v * v
        r = np.float32(1.0) / np.sqrt(square / np.float32(width) + eps)
        scale[batch, t] = r
        for c in range(width):
            x_t[c] = narrow(x, total_t[c] * r * weight[c])


@kernel()
def _norm_rows_backward(job, dtotal, dx, total, scale, weight, dsum, dweight):
    """Gradient of the sum. dtotal is empty if it is zero, dweight (jobs, width) or empty if not wanted."""
    use_widest_vectors()
    (length, width), jobs = total.shape[1:], (total.shape[1] + ROWS - 1) // ROWS
    batch, start = job // jobs, job % jobs * ROWS
    for t in range(start, min(start + ROWS, length)):
        dx_t, total_t, dsum_t, r = dx[batch, t], total[batch, t], dsum[batch, t], scale[batch, t]
        along = np.float32(0.0)
        for c in range(width):
            along += widen(dx_t[c]) * weight[c] * total_t[c]
        along *= r * r * r / np.float32(width)
        for c in range(width):
            dsum_t[c] = widen(dx_t[c]) * weight[c] * r - total_t[c] * along
        if dtotal.size > 0:
            dtotal_t = dtotal[batch, t]
            for c in range(width):
                dsum_t[c] += dtotal_t[c]
        if dweight.size > 0:
            for c in range(width):
                dweight[job, c] += widen(dx_t[c]) * total_t[c] * r


def _jobs(x: Tensor) -> int:
    return x.shape[0] * -(-x.shape[1] // ROWS)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, residual: Tensor, hidden: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        total, x = torch.empty(residual.shape, dtype=torch.float32), hidden.new_empty(hidden.shape)
        scale = torch.empty(residual.shape[:2], dtype=torch.float32)
        inputs = kernel_array(residual), kernel_array(hidden), weight.detach().contiguous().numpy()
        outputs = kernel_array(total), kernel_array(x), scale.numpy()
        run_jobs(_norm_rows, _jobs(total), *inputs, np.float32(eps), *outputs)
        ctx.save_for_backward(total, scale, weight)
        ctx.set_materialize_grads(False)
        ctx.hidden_dtype = hidden.dtype
        return total, x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dtotal: Tensor | None, dx: Tensor | None) -> Any:
        total, scale, weight = ctx.saved_tensors
        if dx is None:
            dx = torch.zeros_like(total)
        nothing, jobs, width = total.new_empty(0, 0, 0), _jobs(total), total.shape[2]
        dsum = torch.empty_like(total)
        dweight = total.new_zeros(jobs if ctx.needs_input_grad[2] else 0, width)
        inputs = (kernel_array(t) for t in (nothing if dtotal is None else dtotal, dx, total))
        constants = scale.numpy(), weight.detach().contiguous().numpy()
        run_jobs(_norm_rows_backward, jobs, *inputs, *constants, kernel_array(dsum), dweight.numpy())
        for_weight = dweight.sum(0) if ctx.needs_input_grad[2] else None
        return dsum, dsum.to(ctx.hidden_dtype), for_weight, None


def add_norm(residual: Tensor, hidden: Tensor, weight: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Sum of the two streams of a block and its RMS norm.

    Args:
        residual: (batch, length, d_model) float32.
        hidden: (batch, length, d_model).
        weight: (d_model,) float32, of the norm.
        eps: added to the mean square.

    Returns:
        residual + hidden in float32, and its norm in the dtype of hidden; both (batch, length, d_model).
    """
    out: tuple[Tensor, Tensor]
    if residual.dtype == torch.float32 and fused_on_gpu(residual, hidden, weight):
        from videossp.ops.triton_operators import add_norm_operator

        total, x, _ = add_norm_operator(residual, hidden, weight, eps)
        return total, x
    if not fused(residual, hidden, weight) or residual.dtype != torch.float32:
        total = residual + hidden.to(residual.dtype)
        return total, F.rms_norm(total, weight.shape, weight, eps).to(hidden.dtype)
    out = _AddNorm.apply(residual, hidden, weight, eps)
    return out
