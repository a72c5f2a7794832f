"""Linear probe: only the head and the final norm train."""

from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner


class LinearProbe(Tuner):
    """Edits nothing: the baseline that every method must beat."""

    depends_on = "cls"

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
