"""The learning rate over the steps of a run."""

import math
from collections.abc import Callable


def warmup_cosine(steps: int, warmup: int, floor: float) -> Callable[[int], float]:
    """Linear warm-up from `floor` to 1, then half a cosine back to `floor`.

    Args:
        steps: optimiser steps of the run.
        warmup: steps of the warm-up. With as many as `steps`, or more, the run ends within it.
        floor: factor at both ends.

    Returns:
        The factor on the peak learning rate for a step, counted from 0.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return floor + (1 - floor) * (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return floor + (1 - floor) * (1 + math.cos(math.pi * min(1.0, done))) / 2

    return factor
