"""Selective Visual Prompting: a prompt for every patch (Yao et al., AAAI 2025, arXiv 2412.08947)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.check_sizes import check_size
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.model.quantity import Quantity
from videossp.model.tokens import Tokens
from videossp.ops.matmul import Linear


class SVP(Tuner):
    """Adds alpha SiLU(up(down(x))) + beta SiLU(cross(x)) to every patch x before each block. Starts at zero.

    The first prompt is of low rank, with weights for each block. The second is of full rank, with weights
    that a group of neighbouring blocks shares.

    Args:
        config: sizes of the backbone.
        width: rank of the first prompt; published: 64 at VideoMamba-M.
        groups: number of groups; published: 2 to 6 for 24 blocks. 1 fits the parameter count of SSP's table.
    """

    scaled = {"width": Scaled(64, multiple_of=2)}
    not_merged = "an activation follows its products"

    def __init__(self, config: VideoMambaConfig, *, width: int | None = None, groups: int = 1) -> None:
        super().__init__()
        width = self.scaled["width"].resolve(width, config)
        check_size("width", width)
        check_size("groups", groups)
        if groups > config.depth:
            raise ValueError(f"groups must be between 1 and {config.depth}, the blocks, got {groups}")
        self.group = [layer * groups // config.depth for layer in range(config.depth)]
        self.down = nn.ModuleList(Linear(config.d_model, width) for _ in range(config.depth))
        self.up = nn.ModuleList(Linear(width, config.d_model) for _ in range(config.depth))
        self.cross = nn.ModuleList(Linear(config.d_model, config.d_model) for _ in range(groups))
        # A vector for each block and group: weight decay spares parameters of one dimension.
        self.alpha = nn.ParameterList(torch.zeros(config.d_model) for _ in range(config.depth))
        self.beta = nn.ParameterList(torch.zeros(config.d_model) for _ in range(groups))

    def layer_of(self, name: str) -> int | None:
        kind, _, rest = name.partition(".")
        return int(rest.split(".")[0]) if kind in ("down", "up", "alpha") else None

    def edit_tokens(self, layer: int, tokens: Tokens) -> Tokens:
        x = tokens.part("patches")
        per_layer, shared = self._prompts(layer, x)
        return tokens.write(patches=x + per_layer + shared)

    def _prompts(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both prompts of patches x, (batch, frames, patches, d_model)."""
        group = self.group[layer]
        per_layer = self.alpha[layer] * F.silu(self.up[layer](self.down[layer](x)))
        return per_layer, self.beta[group] * F.silu(self.cross[group](x))

    def quantities(self, layer: int, tokens: Tokens) -> Sequence[Quantity]:
        if layer == len(self.alpha):
            return ()
        x = tokens.part("patches")
        per_layer, shared = self._prompts(layer, x)
        relative = (per_layer + shared).norm(dim=-1) / x.norm(dim=-1).clamp_min(1e-10)
        return [Quantity("size of the prompts / size of the patch token", relative, "patch")]
