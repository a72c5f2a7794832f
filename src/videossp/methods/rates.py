"""Learning rates that methods train with by default, as far as they were measured."""

from videossp.model.config import BACKBONES, VideoMambaConfig

UNMEASURED = 1e-3

# Learning rate by method, for backbones with the depth and width of videomamba_nano. On each of the four data
# sets of docs/benchmarks.md, validation chose one rate from a grid (benchmarks/results). The value here is
# the median of the four; if it falls between two rates of the grid, the smaller one. Those of moments and
# gather_spread are provisional: their search is not complete.
NANO = {
    "linear": 1e-2,
    "mean": 1e-2,
    "moments": 3e-3,
    "attentive": 1e-3,
    "full": 3e-4,
    "partial": 3e-2,
    "adapter": 1e-2,
    "st_adapter": 3e-3,
    "lora": 1e-2,
    "vpt": 1e-2,
    "vfpt": 1e-2,
    "svp": 3e-3,
    "additional_scan": 3e-3,
    "affix": 1e-2,
    "state_offset": 1e-2,
    "stop": 1e-3,
    "ssp": 3e-3,
    "gather_spread": 1e-2,
}


def measured_lr(name: str, config: VideoMambaConfig) -> float | None:
    """The measured rate of a bundled method at this backbone; None: not measured."""
    nano = BACKBONES["videomamba_nano"]
    same = (config.depth, config.d_model) == (nano.depth, nano.d_model)
    return NANO.get(name) if same else None
