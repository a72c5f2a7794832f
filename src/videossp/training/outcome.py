"""`Outcome`: losses and gradient norms of a step, which stay on the device until they are read."""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from videossp.model.device import read_later


class Outcome:
    """Losses and gradient norms of a step in this process; the total and the faults of all processes.

    Their copy to the CPU begins at once. A program that reads them only after it has queued the next step
    never waits for a GPU that has nothing to do.

    Args:
        step, epoch: numbers of the step and its epoch, from 0.
        clips: of the step, over all processes.
        losses: mean loss of each batch, scalars.
        indices: videos of each batch.
        names: of the parameters that have a gradient.
        norms: (parameters,), of their gradients.
        skip: scalar, 1 if a loss or gradient of some process is not finite, else 0.
        total: scalar, sum of the losses of the clips of all processes.
    """

    def __init__(
        self,
        step: int,
        epoch: int,
        clips: int,
        losses: Sequence[Tensor],
        indices: Sequence[Sequence[int]],
        names: Sequence[str],
        norms: Tensor,
        skip: Tensor,
        total: Tensor,
    ) -> None:
        self.step, self.epoch, self.clips, self.skip = step, epoch, clips, skip
        self.indices, self.names = indices, names
        figures = (skip, total, *losses, norms)
        self._read = read_later(torch.cat([x.reshape(-1).to(total.dtype) for x in figures]))

    @cached_property
    def _figures(self) -> list[float]:
        values: list[float] = self._read().tolist()
        return values

    @property
    def finite(self) -> bool:
        """Whether all losses and gradients of all processes are finite."""
        return self._figures[0] == 0

    @property
    def total(self) -> float:
        """Sum of the losses of the clips of all processes."""
        return self._figures[1]

    @property
    def bad_batch(self) -> Sequence[int] | None:
        """Videos of the first batch of this process whose loss is not finite, or None."""
        losses = self._figures[2 : 2 + len(self.indices)]
        return next(
            (x for loss, x in zip(losses, self.indices, strict=True) if not math.isfinite(loss)), None
        )

    @property
    def bad_gradient(self) -> str | None:
        """The first parameter whose gradient is not finite, or None."""
        norms = self._figures[2 + len(self.indices) :]
        return next((x for norm, x in zip(norms, self.names, strict=True) if not math.isfinite(norm)), None)
