"""Full fine-tuning: every weight of the backbone trains."""

from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner


class Full(Tuner):
    """Adds nothing and freezes nothing: the most expensive reference."""

    thaw = ("*",)
    not_merged = "the trained weights are those of the backbone"

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
