"""LoRA on the projections (Hu et al., arXiv 2106.09685; on Mamba: MambaPEFT, arXiv 2411.03855)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.options import check_names
from videossp.model.config import ProjectionName, VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.ops.matmul import Linear, linear

TARGETS = [
    "in_proj",
    "in_proj.x",
    "in_proj.z",
    "x_proj",
    "x_proj.dt",
    "x_proj.B",
    "x_proj.C",
    "dt_proj",
    "out_proj",
]


class LoRA(Tuner):
    """Adds scale * up(down(x)) to the output of frozen projections, in every block. Starts at zero.

    Args:
        config: sizes of the backbone.
        targets: of in_proj, x_proj, dt_proj, out_proj; or parts: in_proj.x, in_proj.z (gate), x_proj.dt,
            x_proj.B, x_proj.C. x_proj and dt_proj are meant in both directions, each with its own weights.
        rank: of the change; 16 at VideoMamba-M.
        scale: its factor (MambaPEFT: 0.1).
        drop: between down and up, while training (MambaPEFT: 0.1).
    """

    scaled = {"rank": Scaled(16)}

    def __init__(
        self,
        config: VideoMambaConfig,
        *,
        targets: tuple[str, ...] = ("in_proj", "out_proj"),
        rank: int | None = None,
        scale: float = 0.1,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        targets = check_names("targets", targets, TARGETS)
        rank = self.scaled["rank"].resolve(rank, config)
        if rank < 1 or not 0 <= drop < 1:
            raise ValueError("rank must be at least 1, drop in [0, 1)")
        self.scale, self.drop = scale, drop
        self.places: dict[str, list[tuple[str, int, int]]] = {}  # op -> key in `pairs`, rows of the weight
        pairs = {}
        for target in targets:
            op, _, part = target.partition(".")
            for direction in ("", "_b") if op in ("x_proj", "dt_proj") else ("",):
                name, first, last = config.rows(f"{op}{direction}{part and '.' + part}")
                key = f"{name}_{part}" if part else name
                self.places.setdefault(name, []).append((key, first, last))
                layers = (self._pair(config.width(name)[0], rank, last - first) for _ in range(config.depth))
                pairs[key] = nn.ModuleList(layers)
        self.pairs = nn.ModuleDict(pairs)

    def layer_of(self, name: str) -> int | None:
        return int(name.split(".")[2])  # pairs.OP.LAYER

    @staticmethod
    def _pair(width: int, rank: int, out: int) -> nn.ModuleList:
        down, up = Linear(width, rank, bias=False), Linear(rank, out, bias=False)
        nn.init.zeros_(up.weight)
        return nn.ModuleList([down, up])

    def edit_projection(self, layer: int, name: ProjectionName, x: Tensor, y: Tensor) -> Tensor:
        for key, first, last in self.places.get(name, ()):
            down, up = self.pairs[key][layer]  # type: ignore[index]
            change = self.scale * up(F.dropout(down(x), self.drop, self.training))
            y = y + F.pad(change.to(y.dtype), (first, y.shape[-1] - last))
        return y

    @torch.no_grad()
    def merge(self, weight: Callable[[int, str], Tensor]) -> tuple[Tuner, str]:
        for op, places in self.places.items():
            for key, first, last in places:
                pairs: Any = self.pairs[key]
                for layer, (down, up) in enumerate(pairs):
                    change = linear(up.weight, down.weight.t())
                    weight(layer, op)[first:last] += self.scale * change
        return Tuner(), f"folded into {', '.join(self.places)}"
