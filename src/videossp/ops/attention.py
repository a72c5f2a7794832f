"""`self_attention` of a few rows."""

import torch.nn.functional as F
from torch import Tensor, nn


def self_attention(x: Tensor, layer: nn.MultiheadAttention) -> Tensor:
    """What `layer(x, x, x)[0]` is, in half the time for a few rows: without its checks and copies.

    Args:
        x: (batch, length, width).
        layer: with one width, biases, no dropout, batch first.
    """
    qkv = F.linear(x, layer.in_proj_weight, layer.in_proj_bias)
    q, k, v = qkv.unflatten(-1, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    out: Tensor = layer.out_proj(y)
    return out
