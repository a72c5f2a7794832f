"""Additional-Scan: more states beside the frozen ones (MambaPEFT, ICLR 2025, arXiv 2411.03855)."""

from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from videossp.methods.check_sizes import check_size
from videossp.model.config import ScanName, VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.ops.matmul import Linear
from videossp.ops.scan import Scan


class AdditionalScan(Tuner):
    """Adds states to every channel of both scans, with trained A and trained projections to B and C.

    The output is that of the frozen scan plus that of a second scan over the added states.

    Args:
        config: sizes of the backbone.
        states: states added per channel; published: 6 at VideoMamba-M, which has 16.
        start: initial A of the added states: a copy of that of the channel's first or last frozen state
            (published: first), or "s4d", which continues the series 1, 2, ... of S4D.
        silent: C of the added states starts at zero, and with it their output. Published: False.
    """

    undecayed = ("A",)
    scaled = {"states": Scaled(6, by="d_state")}
    not_merged = "it adds states to the scans"

    def __init__(
        self,
        config: VideoMambaConfig,
        *,
        states: int | None = None,
        start: Literal["first", "last", "s4d"] = "first",
        silent: bool = False,
    ) -> None:
        super().__init__()
        states = self.scaled["states"].resolve(states, config)
        check_size("states", states)
        if start not in ("first", "last", "s4d"):
            raise ValueError(f"start must be first, last or s4d, got {start!r}")
        self.start = start
        # log of A relative to its initial value, (depth, direction, d_inner, states)
        self.A = nn.Parameter(torch.zeros(config.depth, 2, config.d_inner, states))
        if start == "s4d":
            self.A.data += torch.log(config.d_state + 1 + torch.arange(states, dtype=torch.float32))
        self.BC = nn.ModuleList(
            Linear(config.d_inner, 2 * states, bias=False) for _ in range(2 * config.depth)
        )
        if silent:
            for projection in self.BC:
                projection.weight.data[states:] = 0  # type: ignore[operator]

    def layer_of(self, name: str) -> int | None:
        return int(name.split(".")[1]) // 2 if name.startswith("BC.") else None

    def edit_scan(self, layer: int, name: ScanName, scan: Scan) -> Scan:
        direction = int(name == "scan_b")
        frozen = {"first": scan.A[:, :1], "last": scan.A[:, -1:]}.get(self.start, -1.0)
        A = frozen * torch.exp(self.A[layer, direction])
        B, C = self.BC[2 * layer + direction](scan.u).to(scan.B.dtype).chunk(2, dim=-1)
        return replace(
            scan,
            A=torch.cat([A, scan.A], dim=1),
            B=torch.cat([B, scan.B], dim=-1),
            C=torch.cat([C, scan.C], dim=-1),
        )
