"""Selective Visual Prompting: a prompt for every patch (Yao et al., AAAI 2025, arXiv 2412.08947)."""

import torch
import torch.nn.functional as F
from torch import nn

from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.model.tokens import Tokens
from videossp.ops.matmul import Linear


class SVP(Tuner):
    """Before each block adds alpha SiLU(up(down(x))) + beta SiLU(cross(x)) to every patch x. Starts at zero.

    The first prompt is the layer's own, of low rank; the second is of full rank and shared by a group of
    layers.

    Args:
        config: sizes of the backbone.
        width: rank of the layer's own prompt; published: 64 at VideoMamba-M.
        groups: of neighbouring layers that share a full-rank prompt; published: 2 to 6 of 24 layers. 1 fits
            SSP's table.
    """

    scaled = {"width": Scaled(64, multiple_of=2)}
    not_merged = "an activation stands behind its products"

    def __init__(self, config: VideoMambaConfig, *, width: int | None = None, groups: int = 1) -> None:
        super().__init__()
        width = self.scaled["width"].resolve(width, config)
        if width < 1 or not 1 <= groups <= config.depth:
            raise ValueError(f"width must be at least 1, groups between 1 and {config.depth}")
        self.group = [layer * groups // config.depth for layer in range(config.depth)]
        self.down = nn.ModuleList(Linear(config.d_model, width) for _ in range(config.depth))
        self.up = nn.ModuleList(Linear(width, config.d_model) for _ in range(config.depth))
        self.cross = nn.ModuleList(Linear(config.d_model, config.d_model) for _ in range(groups))
        # One vector each, so that weight decay spares them, as the gains that they are.
        self.alpha = nn.ParameterList(torch.zeros(config.d_model) for _ in range(config.depth))
        self.beta = nn.ParameterList(torch.zeros(config.d_model) for _ in range(groups))

    def layer_of(self, name: str) -> int | None:
        kind, _, rest = name.partition(".")
        return int(rest.split(".")[0]) if kind in ("down", "up", "alpha") else None

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        x, group = tokens.part("patches"), self.group[layer]
        own = self.alpha[layer] * F.silu(self.up[layer](self.down[layer](x)))
        shared = self.beta[group] * F.silu(self.cross[group](x))
        return tokens.write(patches=x + own + shared)
