"""`softmax_entropy`, in one pass instead of five."""

import numpy as np
import torch
from torch import Tensor

from videossp.ops.choice import fused
from videossp.ops.threads import run_jobs
from videossp.ops.vector import LOG2E, exp2, kernel, rows, widen

ROWS = 128  # of one job


@kernel()
def _entropy_rows(job, x, out):
    """ROWS rows of x (1, rows, width); log s - sum(e v) / s with e = exp(v), s = sum(e), v = x - max(x)."""
    for t in range(job * ROWS, min((job + 1) * ROWS, x.shape[1])):
        x_t = x[0, t]
        largest = np.float32(-np.inf)
        for c in range(x_t.size):
            largest = max(largest, widen(x_t[c]))
        s, sv = np.float32(0.0), np.float32(0.0)
        for c in range(x_t.size):
            v = widen(x_t[c]) - largest
            e = exp2(v * LOG2E)
            s += e
            sv += e * v
        out[t] = np.log(s) - sv / s


def softmax_entropy(x: Tensor) -> Tensor:
    """Entropy in nats of softmax(x) over the last dimension, float32. Not differentiable.

    Args:
        x: (..., width).
    """
    x = x.detach()
    if not fused(x):
        log_p = x.log_softmax(-1, dtype=torch.float32)
        return -(log_p.exp() * log_p).sum(-1)
    table, out = x.reshape(1, -1, x.shape[-1]).contiguous(), torch.empty(x.shape[:-1])
    run_jobs(_entropy_rows, -(-table.shape[1] // ROWS), rows(table), out.view(-1).numpy())
    return out
