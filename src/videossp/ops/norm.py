"""`add_norm`: residual + hidden and its RMS norm, in one pass."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from videossp.ops.dispatch import fused, once
from videossp.ops.simd import kernel, narrow, rows, whole_vectors, widen
from videossp.ops.threads import run_jobs

ROWS = 128  # of one job


@kernel()
def _norm_rows(job, residual, hidden, weight, eps, total, x, scale):
    """ROWS rows of one clip; scale (batch, length) receives 1 / sqrt(mean square + eps)."""
    whole_vectors()
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
    """dtotal may be empty, for zero; dweight is (jobs, width) or empty."""
    whole_vectors()
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
        arrays = rows(residual), rows(hidden), weight.detach().contiguous().numpy(), np.float32(eps)
        run_jobs(_norm_rows, _jobs(total), *arrays, rows(total), rows(x), scale.numpy())
        ctx.save_for_backward(total, scale, weight)
        ctx.set_materialize_grads(False)
        ctx.hidden_dtype = hidden.dtype
        return total, x

    @staticmethod
    @once
    def backward(ctx: Any, dtotal: Tensor | None, dx: Tensor | None) -> Any:
        total, scale, weight = ctx.saved_tensors
        if dx is None:
            dx = torch.zeros_like(total)
        nothing, jobs, width = total.new_empty(0, 0, 0), _jobs(total), total.shape[2]
        dsum = torch.empty_like(total)
        dweight = total.new_zeros(jobs if ctx.needs_input_grad[2] else 0, width)
        arrays = rows(nothing if dtotal is None else dtotal), rows(dx), rows(total), scale.numpy()
        constants = weight.detach().contiguous().numpy()
        run_jobs(_norm_rows_backward, jobs, *arrays, constants, rows(dsum), dweight.numpy())
        for_weight = dweight.sum(0) if ctx.needs_input_grad[2] else None
        return dsum, dsum.to(ctx.hidden_dtype), for_weight, None


def add_norm(residual: Tensor, hidden: Tensor, weight: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """The sum of both streams and its RMS norm.

    Args:
        residual: (batch, length, d_model) float32.
        hidden: (batch, length, d_model).
        weight: (d_model,) float32, of the norm.
        eps: added to the mean square.

    Returns:
        residual + hidden, float32, and its norm in the dtype of hidden.
    """
    if not fused(residual, hidden, weight) or residual.dtype != torch.float32:
        total = residual + hidden.to(residual.dtype)
        return total, F.rms_norm(total, weight.shape, weight, eps).to(hidden.dtype)
    out: tuple[Tensor, Tensor] = _AddNorm.apply(residual, hidden, weight, eps)
    return out
