"""Full fine-tuning: every weight of the backbone trains."""

from videossp.model.hooks import Spec, Tuner


class Full(Tuner):
    """Nothing added, nothing frozen: the upper reference, and the most expensive."""

    thaw = ("*",)
    unfolded = "what it learned are weights of the backbone already"

    def __init__(self, spec: Spec) -> None:
        super().__init__()
