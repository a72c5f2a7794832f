"""Mean: the head also reads the mean of the frozen patch tokens."""

from torch import Tensor, nn

from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner
from videossp.model.tokens import Tokens
from videossp.ops.matmul import Linear


class Mean(Tuner):
    """Adds to cls a linear map of the mean of all patches after the last block. Starts at zero.

    In a long clip, information reaches cls only through the few states of a scan. The mean reads every patch
    directly, but ignores their order. The head's norm is applied to the sum of both.

    Args:
        config: sizes of the backbone.
    """

    adds_to_cls = True
    depends_on = "tokens"
    not_merged = "it reads tokens after the last block"

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.d_model, eps=1e-5)
        self.map = Linear(config.d_model, config.d_model, bias=False)
        nn.init.zeros_(self.map.weight)

    def edit_cls(self, tokens: Tokens, y: Tensor) -> Tensor:
        patches = tokens.part("patches") + tokens.residual_part("patches")
        out: Tensor = y + self.map(self.norm(patches).mean((1, 2))).to(y.dtype)
        return out
