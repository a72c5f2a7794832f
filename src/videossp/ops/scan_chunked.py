"""The selective scan in plain torch, a chunk of steps at a time: any device, any float dtype, autograd."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 32  # steps computed in parallel, in log2(CHUNK) rounds; their states are most of the memory


def _steps(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Compute some steps from the state h in parallel. Returns their outputs and the last state.

    Two neighbouring steps (decay, input) combine to one: (decay1 decay2, decay2 input1 + input2). Doubling
    the reach of every step (Hillis & Steele 1986) divides by no decay, so nothing overflows.
    """
    decay = torch.exp(dt[..., None] * A)  # (batch, steps, d_inner, d_state)
    state = (dt * u)[..., None] * B[:, :, None]
    reach = 1
    while reach < decay.shape[1]:
        before, after = state[:, :-reach], decay[:, reach:]
        state = torch.cat([state[:, :reach], state[:, reach:] + after * before], dim=1)
        decay = torch.cat([decay[:, :reach], after * decay[:, :-reach]], dim=1)
        reach *= 2
    state = state + decay * h[:, None]
    # Not einsum or matmul: autocast would round the state to bfloat16, and a GPU may round it to TF32.
    return (state * C[:, :, None]).sum(-1), state[:, -1]


def scan_chunked(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    h0: Tensor | None = None,
    *,
    reverse: bool = False,
) -> Tensor:
    """As `scan_reference` up to rounding, in length / CHUNK Python steps.

    The backward recomputes the states of a chunk instead of saving them.
    """
    dt = F.softplus(delta if delta_bias is None else delta + delta_bias)
    h = u.new_zeros(u.shape[0], *A.shape) if h0 is None else h0
    sequences: tuple[Tensor, ...] = (u, dt, B, C)
    if reverse:
        sequences = tuple(x.flip(1) for x in sequences)
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in (*sequences, A, h))
    outputs = []
    for parts in zip(*(x.split(CHUNK, dim=1) for x in sequences), strict=True):
        arguments: Any = (parts[0], parts[1], A, parts[2], parts[3], h)
        out, h = checkpoint(_steps, *arguments, use_reentrant=False) if learning else _steps(*arguments)
        outputs.append(out)
    y = torch.cat(outputs, dim=1)
    y = y.flip(1) if reverse else y
    return y if D is None else y + D * u
