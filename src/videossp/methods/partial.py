"""Partial fine-tuning: some weights train (BitFit, arXiv 2106.10199; MambaPEFT, arXiv 2411.03855)."""

from videossp.methods.check_names import check_names
from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner

PARTS = {
    "bias": ("*.bias",),
    "A": ("*.A_log", "*.A_b_log"),
    "D": ("*.D", "*.D_b"),
    "dt_bias": ("*.dt_proj.bias", "*.dt_proj_b.bias"),
    "conv": ("*.conv1d.weight", "*.conv1d_b.weight"),
    "norm": ("*.norm.weight",),
    "position": ("cls_token", "pos_embed", "temporal_pos_embedding"),
}


class Partial(Tuner):
    """Adds nothing; some kinds of the backbone's weights train. With "bias" alone this is BitFit.

    There is no weight decay. MambaPEFT instead learns the difference to the frozen weight and decays it.

    Args:
        config: sizes of the backbone.
        parts: the kinds: bias, A, D, dt_bias, conv (weights), norm, position (embeddings and the cls token).
    """

    not_merged = "the trained weights are those of the backbone"

    def __init__(self, config: VideoMambaConfig, *, parts: tuple[str, ...] = ("bias",)) -> None:
        super().__init__()
        self.thaw = tuple(pattern for name in check_names("parts", parts, PARTS) for pattern in PARTS[name])
