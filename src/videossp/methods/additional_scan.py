"""Additional-Scan: more states beside the frozen ones (MambaPEFT, ICLR 2025, arXiv 2411.03855)."""

from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from videossp.model.config import ScanName, VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.ops.matmul import Linear
from videossp.ops.scan import Scan


class AdditionalScan(Tuner):
    """Both scans of every block get more states per channel, with their own A and projections to B and C.

    What the new states add to the output is a second scan's; the frozen one is unchanged.

    Args:
        config: sizes of the backbone.
        states: more states per channel; published: 6 at VideoMamba-M, which has 16.
        start: their A starts from the channel's first or last frozen one, or goes on after those of S4D.
        silent: their C starts at zero, so that training starts at the backbone's output; else as published.
    """

    undecayed = ("A",)
    scaled = {"states": Scaled(6, by="d_state")}
    not_merged = "its states are in the scan"

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
        if states < 1 or start not in ("first", "last", "s4d"):
            raise ValueError("states must be at least 1, start first, last or s4d")
        self.start = start
        # log of A relative to where it starts, (depth, direction, d_inner, states)
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
        frozen = {"first": scan.A[:, :1], "last": scan.A[:, -1:], "s4d": -torch.ones(())}
        A = frozen[self.start] * torch.exp(self.A[layer, direction])
        B, C = self.BC[2 * layer + direction](scan.u).to(scan.B.dtype).chunk(2, dim=-1)
        return replace(
            scan,
            A=torch.cat([A, scan.A], dim=1),
            B=torch.cat([B, scan.B], dim=-1),
            C=torch.cat([C, scan.C], dim=-1),
        )
