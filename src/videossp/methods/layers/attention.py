"""`self_attention` of short sequences, and `NarrowAttention`, the same in a bottleneck."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def self_attention(x: Tensor, layer: nn.MultiheadAttention) -> Tensor:
    """`layer(x, x, x)[0]` without its checks and copies: half the time for short sequences.

    Args:
        x: (batch, length, width).
        layer: batch first, with biases and no dropout; keys and values as wide as queries.

    Returns:
        (batch, length, width).
    """
    qkv = F.linear(x, layer.in_proj_weight, layer.in_proj_bias)
    q, k, v = qkv.unflatten(-1, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    out: Tensor = layer.out_proj(y)
    return out


class NarrowAttention(nn.Module):
    """scale * up(attention(down(x))) of x (batch, length, d_model), for example one token of each frame.

    Args:
        d_model: width of x.
        width: width of the attention.
        heads: number of heads, a divisor of `width`.
    """

    def __init__(self, d_model: int, width: int, heads: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(d_model, width), nn.Linear(width, d_model)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.mul(self.scale, self.up(self_attention(self.down(x), self.attention)))

    def weights(self, x: Tensor) -> Tensor:
        """How much each position attends to each other one, mean over the heads: (batch, length, length)."""
        narrow = self.down(x)
        out: Tensor = self.attention(narrow, narrow, narrow)[1]
        return out
