"""Definitions in plain torch of the selective scan and the causal convolution; kernels must equal them."""

import torch
import torch.nn.functional as F
from torch import Tensor


def scan_reference(
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
    """The recurrence as a loop over time: slow and obvious, differentiable, any device and dtype.

    With dt = softplus(delta + delta_bias):
    h_t = exp(dt_t A) h_(t-1) + dt_t u_t B_t,   y_t = h_t . C_t + D u_t   (Gu & Dao 2023, algorithm 2).

    Args:
        u, delta: (batch, length, d_inner).
        A: (d_inner, d_state), negative.
        B, C: (batch, length, d_state).
        D, delta_bias: (d_inner,) or None for zero.
        h0: (batch, d_inner, d_state), the state before the first step, or None for zero.
        reverse: scan from the end of the sequence to its start.

    Returns:
        y: (batch, length, d_inner), computed in the widest dtype of the arguments.
    """
    dt = F.softplus(delta if delta_bias is None else delta + delta_bias)
    batch, length, d_inner = u.shape
    h = u.new_zeros(batch, d_inner, A.shape[1]) if h0 is None else h0
    outputs = [u[:, 0]] * length
    for t in reversed(range(length)) if reverse else range(length):
        decay = torch.exp(dt[:, t, :, None] * A)
        h = decay * h + (dt[:, t] * u[:, t])[..., None] * B[:, t, None, :]
        outputs[t] = (h * C[:, t, None, :]).sum(-1)
    y = torch.stack(outputs, dim=1)
    return y if D is None else y + D * u


def conv_reference(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool = False) -> Tensor:
    """Causal depthwise convolution, then SiLU: a step depends on itself and the d_conv - 1 steps before it.

    Args:
        x: (batch, length, d_inner).
        weight: (d_inner, 1, d_conv); its last tap is multiplied with the current step.
        bias: (d_inner,).
        reverse: use the d_conv - 1 steps after it instead, as a scan from the end does.

    Returns:
        (batch, length, d_inner).
    """
    taps = weight.shape[-1]
    padding = (0, taps - 1) if reverse else (taps - 1, 0)
    kernel = weight.flip(-1) if reverse else weight
    columns = F.pad(x.mT, padding)
    return F.silu(F.conv1d(columns, kernel, bias, groups=weight.shape[0]).mT)
