"""LoRA on the projections (Hu et al., arXiv 2106.09685; on Mamba: MambaPEFT, arXiv 2411.03855)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from videossp.methods.check_names import check_names
from videossp.methods.check_sizes import check_size
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
    """Adds scale * up(down(x)) to the output of frozen projections in every block. Starts at zero.

    Args:
        config: sizes of the backbone.
        targets: the projections: in_proj, x_proj, dt_proj, out_proj; or parts of them: in_proj.x, in_proj.z
            (gate), x_proj.dt, x_proj.B, x_proj.C. x_proj and dt_proj stand for both directions, which have
            separate weights.
        rank: rank of the change; 16 at VideoMamba-M.
        scale: factor of the change (MambaPEFT: 0.1).
        drop: dropout between down and up (MambaPEFT: 0.1).
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
        check_size("rank", rank)
        if not 0 <= drop < 1:
            raise ValueError(f"drop must be in [0, 1), got {drop}")
        self.scale, self.drop = scale, drop
        # projection -> [(key in `pairs`, first, last)]: each pair changes the output features [first, last).
        self.changes: dict[str, list[tuple[str, int, int]]] = {}
        pairs = {}
        for target in targets:
            projection, _, part = target.partition(".")
            for direction in ("", "_b") if projection in ("x_proj", "dt_proj") else ("",):
                name, first, last = config.rows(f"{projection}{direction}{part and '.' + part}")
                key = f"{name}_{part}" if part else name
                self.changes.setdefault(name, []).append((key, first, last))
                layers = (self._pair(config.width(name)[0], rank, last - first) for _ in range(config.depth))
                pairs[key] = nn.ModuleList(layers)
        self.pairs = nn.ModuleDict(pairs)

    def layer_of(self, name: str) -> int | None:
        return int(name.split(".")[2])  # pairs.PROJECTION.LAYER

    @staticmethod
    def _pair(width: int, rank: int, out: int) -> nn.ModuleList:
        down, up = Linear(width, rank, bias=False), Linear(rank, out, bias=False)
        nn.init.zeros_(up.weight)
        return nn.ModuleList([down, up])

    def edit_projection(self, layer: int, name: ProjectionName, x: Tensor, y: Tensor) -> Tensor:
        for key, first, last in self.changes.get(name, ()):
            down, up = self.pairs[key][layer]  # type: ignore[index]
            change = self.scale * up(F.dropout(down(x), self.drop, self.training))
            y = y + F.pad(change.to(y.dtype), (first, y.shape[-1] - last))
        return y

    @torch.no_grad()
    def merge(self, weight: Callable[[int, str], Tensor]) -> tuple[Tuner, str]:
        for projection, changes in self.changes.items():
            for key, first, last in changes:
                pairs: Any = self.pairs[key]
                for layer, (down, up) in enumerate(pairs):
                    change = linear(up.weight, down.weight.t())
                    weight(layer, projection)[first:last] += self.scale * change
        return Tuner(), f"folded into {', '.join(self.changes)}"
