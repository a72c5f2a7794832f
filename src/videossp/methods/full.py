"""Full fine-tuning: every weight of the backbone trains."""

from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner


class Full(Tuner):
    """Nothing added, nothing frozen: the upper reference, and the most expensive."""

    thaw = ("*",)
    not_merged = "what it learned are weights of the backbone already"

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
