"""The selective scan on a GPU by the published CUDA kernel, if `mamba_ssm` is installed."""

import torch
from torch import Tensor


def scan_mamba(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    reverse: bool = False,
) -> Tensor:
    """As `scan_reference`, in float32 and without h0, which that kernel does not support."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    sequences = [x.flip(1) if reverse else x for x in (u, delta, B, C)]
    u, delta, B, C = (x.mT.contiguous() for x in sequences)  # its layout is (batch, channels, length)
    y: Tensor = selective_scan_fn(u, delta, A, B, C, D=D, delta_bias=delta_bias, delta_softplus=True)
    return torch.flip(y.mT, [1]) if reverse else y.mT
