"""`softmax_entropy`: one pass over memory; plain torch needs five."""

import numpy as np
import torch
from torch import Tensor

from videossp.ops.dispatch import fused
from videossp.ops.simd import LINE, LOG2E, exp2, kernel, kernel_array, use_widest_vectors, widen
from videossp.ops.threads import run_jobs

ROWS = 128  # rows of one job


@kernel()
def _entropy_rows(job, x, out):
    """Entropies of ROWS rows of x (1, rows, width).

    An entropy is log s - sum(e v) / s with v = x - max(x), e = exp(v), s = sum(e).
    """
    use_widest_vectors()
    width = x.shape[2]
    row = np.empty(-(-width // LINE) * LINE, np.float32)
    top = np.empty(LINE, np.float32)
    row[width:] = -np.inf
    for t in range(job * ROWS, min((job + 1) * ROWS, x.shape[1])):
        x_t = x[0, t]
        for c in range(width):
            row[c] = widen(x_t[c])
        # A maximum per vector lane, then over the lanes: a single running maximum is not vectorised.
        top[:] = -np.inf
        for first in range(0, row.size, LINE):
            for lane in range(LINE):
                top[lane] = row[first + lane] if row[first + lane] > top[lane] else top[lane]
        largest = top.max()
        s, sv = np.float32(0.0), np.float32(0.0)
        for c in range(width):
            v = row[c] - largest
            e = exp2(v * LOG2E)
            s += e
            sv += e * v
        out[t] = np.log(s) - sv / s


def softmax_entropy(x: Tensor) -> Tensor:
    """Entropy of softmax(x) over the last dimension. Not differentiable.

    Args:
        x: (..., width).

    Returns:
        (...), in nats, float32.
    """
    x = x.detach()
    if not fused(x):
        return differentiable_entropy(x)
    table, out = x.reshape(1, -1, x.shape[-1]).contiguous(), torch.empty(x.shape[:-1], dtype=torch.float32)
    run_jobs(_entropy_rows, -(-table.shape[1] // ROWS), kernel_array(table), out.view(-1).numpy())
    return out


def differentiable_entropy(x: Tensor) -> Tensor:
    """`softmax_entropy` in plain torch, with gradients."""
    log_p = x.log_softmax(-1, dtype=torch.float32)
    return -(log_p.exp() * log_p).sum(-1)
