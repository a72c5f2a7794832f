"""State-offset tuning: a learned state that every step reads (Kang et al., ACL 2025, arXiv 2503.03499)."""

from typing import Literal

import torch
from torch import Tensor, nn

from videossp.model.config import ScanName, VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.ops.matmul import linear
from videossp.ops.scan import Scan


class StateOffset(Tuner):
    """Adds C_t h', or a constant, to the output of both scans at every step t. Starts at zero.

    Args:
        config: sizes of the backbone.
        of: "state" learns the offset h', (d_inner, d_state); "output" learns the constant, (d_inner).
    """

    not_merged = "its offset depends on the input of every step"

    def __init__(self, config: VideoMambaConfig, *, of: Literal["state", "output"] = "state") -> None:
        super().__init__()
        if of not in ("state", "output"):
            raise ValueError(f"of must be state or output, got {of!r}")
        self.of, self.undecayed = of, ("offset",) if of == "output" else ()  # biases, stacked
        width = (config.d_state,) if of == "state" else ()
        self.offset = nn.Parameter(torch.zeros(config.depth, 2, config.d_inner, *width))

    def edit_scan_output(self, layer: int, name: ScanName, scan: Scan, y: Tensor) -> Tensor:
        offset = self.offset[layer, int(name == "scan_b")]
        if self.of == "state":
            # The frozen states are the last; a method before this one in a chain may have added some.
            offset = linear(scan.C[..., -offset.shape[-1] :], offset)
        return y + offset.to(y.dtype)
