"""Linear probe: nothing but the head and the final norm is trained."""

from videossp.model.hooks import Spec, Tuner


class Linear(Tuner):
    """A silent tuner, the floor that every method must beat."""

    depends_on = "cls"

    def __init__(self, spec: Spec) -> None:
        super().__init__()
