"""AdaptFormer: a bottleneck MLP beside the mixer (Chen et al., NeurIPS 2022, arXiv 2205.13535)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.check_sizes import check_size
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.model.tokens import Tokens
from videossp.ops.matmul import Linear


class Adapter(Tuner):
    """Adds scale * (ReLU(x W_down + b_down) W_up + b_up) to the output of every mixer. Starts at zero.

    Args:
        config: sizes of the backbone.
        width: width of the bottleneck; published: 64 at VideoMamba-M.
        scale: fixed factor; None: one learned factor per block, 1 at the start.
        reads: x is the sum of both streams, its norm, which the mixer reads, or the output of the mixer.
        drop: dropout inside the bottleneck.
    """

    scaled = {"width": Scaled(64, multiple_of=2)}
    not_merged = "an activation separates its products"

    def __init__(
        self,
        config: VideoMambaConfig,
        *,
        width: int | None = None,
        scale: float | None = 0.1,
        reads: Literal["residual", "norm", "output"] = "residual",
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        width = self.scaled["width"].resolve(width, config)
        check_size("width", width)
        if not 0 <= drop < 1 or reads not in ("residual", "norm", "output"):
            raise ValueError("drop must be in [0, 1), reads residual, norm or output")
        self.reads, self.drop, self.fixed = reads, drop, scale
        self.down = nn.ModuleList(Linear(config.d_model, width) for _ in range(config.depth))
        self.up = nn.ModuleList(Linear(width, config.d_model) for _ in range(config.depth))
        for down, up in zip(self.down, self.up, strict=True):
            nn.init.zeros_(down.bias)  # type: ignore[arg-type]
            nn.init.zeros_(up.weight)  # type: ignore[arg-type]
            nn.init.zeros_(up.bias)  # type: ignore[arg-type]
        if scale is None:
            self.scale = nn.Parameter(torch.ones(config.depth))

    def layer_of(self, name: str) -> int | None:
        kind, _, rest = name.partition(".")
        return int(rest.split(".")[0]) if kind in ("down", "up") else None

    def edit_mixer_output(self, layer: int, tokens: Tokens, y: Tensor) -> Tensor:
        read = {"residual": tokens.residual, "norm": tokens.hidden, "output": y}[self.reads]
        inner = F.dropout(F.relu(self.down[layer](read)), self.drop, self.training)
        scale = self.scale[layer] if self.fixed is None else self.fixed
        out: Tensor = y + (scale * self.up[layer](inner)).to(y.dtype)
        return out
