"""Linear probe: nothing but the head and the final norm is trained."""

from videossp.model.config import VideoMambaConfig
from videossp.model.hooks import Tuner


class LinearProbe(Tuner):
    """A silent tuner, the floor that every method must beat."""

    depends_on = "cls"

    def __init__(self, config: VideoMambaConfig) -> None:
        super().__init__()
