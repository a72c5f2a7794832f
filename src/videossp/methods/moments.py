"""Moments: the head also reads where and when the frozen patch tokens have their features."""

from collections.abc import Sequence

from torch import Tensor

from videossp.methods.check_sizes import check_size
from videossp.methods.layers.moments import MomentMap
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Scaled, Tuner
from videossp.model.quantity import Quantity
from videossp.model.tokens import Tokens


class Moments(Tuner):
    """Adds to cls a low-rank map of the moments of all patches over time and space. Starts at zero.

    The moments are low frequencies of the cosine transform of the patch tokens over frames, rows and columns;
    `layers/moments.py` has the equations. The moments over time depend on the order of the frames, which
    hardly reaches cls through the scans; those over space on the places in the frame. Frame2Freq (arXiv
    2602.18977) transforms features over time inside an adapter; here the head reads the transform itself.

    Args:
        config: sizes of the backbone.
        times: frequencies over time: 0 to times - 1. Default: half of the frames, at most 8.
        order: largest sum of the frequencies over rows and columns; 0: means over the frame.
        rank: rank of the map of each moment; 48 at VideoMamba-M.
    """

    scaled = {"times": Scaled(4, by="frames", most=8), "rank": Scaled(48, multiple_of=2)}
    adds_to_cls = True
    depends_on = "tokens"
    not_merged = "it reads tokens after the last block"

    def __init__(
        self, config: VideoMambaConfig, *, times: int | None = None, order: int = 2, rank: int | None = None
    ) -> None:
        super().__init__()
        times = self.scaled["times"].resolve(times, config)
        rank = self.scaled["rank"].resolve(rank, config)
        check_size("rank", rank)
        self.depth = config.depth
        self.map = MomentMap(config, times=times, order=order, rank=rank)

    def edit_cls(self, tokens: Tokens, y: Tensor) -> Tensor:
        patches = tokens.part("patches") + tokens.residual_part("patches")
        out: Tensor = y + self.map(patches, y).to(y.dtype)
        return out

    def quantities(self, layer: int, tokens: Tokens) -> Sequence[Quantity]:
        if layer < self.depth:
            return ()
        patches = tokens.part("patches") + tokens.residual_part("patches")
        return [self.map.quantity(patches)]
