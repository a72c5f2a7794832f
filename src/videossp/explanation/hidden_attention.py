"""The hidden attention of selective scans (Ali et al. 2024, arXiv 2403.01590), chained over the blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from videossp.ops.scan import Scan, selective_scan

Scans = Mapping[str, Scan]  # the scans of a block, by direction


def hidden_attention(blocks: Sequence[Scans], kept: Sequence[Tensor], start: Tensor) -> Tensor:
    """How much of the output at some positions comes from each position of the input: (batch, length).

    A scan computes y_i = sum_j a_ij u_j in each channel, with

        a_ij = C_i exp(A (delta_(j+1) + ... + delta_i)) B_j delta_j

    Here a_ij is the mean over the channels, with |B| and |C| in place of B and C, so that the terms of
    different states do not cancel. Each row is divided by its sum. As in attention rollout (Abnar & Zuidema
    2020, arXiv 2005.00928), a block is half this matrix, averaged over its scans, and half the identity. The
    matrices of the blocks are multiplied. This takes two scans per matrix: none is formed. Some methods
    replace the content of their prompts before a block. Earlier blocks have no part in the new content, so
    the weight of these positions is set to zero there.

    Convolution, gate, skip weight D and projections are left out. The result describes the scans alone.

    Args:
        blocks: from the first block to the last.
        kept: for each block, (length,), 0 at positions whose content a method replaces before it, else 1.
        start: (batch, length), the weight of each position of the output.
    """
    weights = start
    for scans, mask in zip(reversed(blocks), reversed(kept), strict=True):
        read = torch.stack([_transposed(scan, weights) for scan in scans.values()]).mean(0)
        weights = mask * (weights + read) / 2
    return weights


def _transposed(scan: Scan, weights: Tensor) -> Tensor:
    """weights @ a, with the rows of a divided by their sums: (batch, length)."""
    ones = torch.ones_like(scan.u, memory_format=torch.contiguous_format)
    positive = replace(scan, u=ones, B=scan.B.abs(), C=scan.C.abs(), D=None, h0=None)
    with torch.no_grad():
        sums = selective_scan(positive).mean(-1)
    with torch.enable_grad():
        u = ones.requires_grad_()
        y = selective_scan(replace(positive, u=u)).mean(-1)
        (gradient,) = torch.autograd.grad((y * (weights / sums.clamp_min(1e-30))).sum(), u)
    found: Tensor = gradient.sum(-1)
    return found
