"""Attentive probe: a learned query attends to the frozen tokens (V-JEPA, arXiv 2404.08471)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from videossp.methods.check_sizes import check_size
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.model.quantity import Quantity
from videossp.model.tokens import Tokens
from videossp.ops.matmul import Linear


class Attentive(Tuner):
    """Replaces cls by the output of a learned query that attends to all tokens after the last block.

    One block of cross-attention and an MLP, as in V-JEPA's evaluation, with torch's default initial values.

    Args:
        config: sizes of the backbone.
        heads: of the attention; they divide d_model.
        width: width of the MLP, in multiples of d_model.
    """

    undecayed = ("query",)
    replaces_cls = True
    depends_on = "tokens"
    not_merged = "it reads tokens after the last block"

    def __init__(self, config: VideoMambaConfig, *, heads: int = 8, width: int = 4) -> None:
        super().__init__()
        check_size("heads", heads)
        check_size("width", width)
        if config.d_model % heads:
            raise ValueError(f"heads must divide d_model {config.d_model}, got {heads}")
        self.depth = config.depth
        self.query = nn.Parameter(torch.empty(1, 1, config.d_model))
        nn.init.trunc_normal_(self.query, std=0.02)
        self.norm, self.norm_mlp = nn.LayerNorm(config.d_model), nn.LayerNorm(config.d_model)
        self.attention = nn.MultiheadAttention(config.d_model, heads, batch_first=True)
        wide = width * config.d_model
        self.mlp = nn.Sequential(Linear(config.d_model, wide), nn.GELU(), Linear(wide, config.d_model))

    def edit_cls(self, tokens: Tokens, y: Tensor) -> Tensor:
        read = self.norm(tokens.residual + tokens.hidden)
        query = self.query.expand(read.shape[0], -1, -1)
        query = query + self.attention(query, read, read, need_weights=False)[0]
        out: Tensor = query + self.mlp(self.norm_mlp(query))
        return out.squeeze(1).to(y.dtype)

    def quantities(self, layer: int, tokens: Tokens) -> Sequence[Quantity]:
        if layer < self.depth:
            return ()
        read = self.norm(tokens.residual + tokens.hidden)
        weights = self.attention(self.query.expand(read.shape[0], -1, -1), read, read)[1]
        # Weights of positions as tokens of width 1, so that the layout finds the patches.
        by_position = replace(tokens, hidden=weights.transpose(1, 2), residual=weights.transpose(1, 2))
        return [Quantity("attention of the query", by_position.part("patches").squeeze(-1), "patch")]
