"""`Quantity`: a value that a model computes on its way to a prediction, for pictures of its mechanism."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Per = Literal["patch", "frame", "frame_pair"]


@dataclass(frozen=True)
class Quantity:
    """A quantity that a model computes for each patch, each frame or each pair of frames.

    It shows how the model works. It does not show which parts of the clip the prediction depends on.

    Attributes:
        name: short, for the legend of a picture.
        values: per "patch" (batch, frames, patches), per "frame" (batch, frames), per "frame_pair"
            (batch, frames, frames): how much the row's frame attends to the column's.
        per: see `values`.
    """

    name: str
    values: Tensor
    per: Per
