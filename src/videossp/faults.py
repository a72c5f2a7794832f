"""What ends a training, told in one line that says what to do; the first tensor that is not finite."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from videossp.tokens import Tokens

T = TypeVar("T")


class Diverged(RuntimeError):
    """More steps than allowed had a loss or a gradient that was not finite."""


@contextmanager
def memory_told(levers: str) -> Iterator[None]:
    """An allocation that fails is one line that names what would need less; torch's own takes a page."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = ("can't allocate memory", "not enough memory", "out of memory")
        if not isinstance(error, MemoryError) and not any(x in str(error) for x in words):
            raise
        raise RuntimeError(f"too little memory: {levers}") from error


def next_batch(batches: Iterator[T]) -> T:
    """The next batch of a DataLoader.

    Raises:
        RuntimeError: one of its processes died or does not answer.
    """
    try:
        return next(batches)
    except RuntimeError as error:
        if "exited unexpectedly" in str(error):
            what = "a process that decodes died (killed, for want of memory?): fewer --workers may help"
        elif "timed out" in str(error):
            what = "a process that decodes does not answer; videossp doctor finds the file"
        else:
            raise
        raise RuntimeError(f"{what}; --resume goes on") from error


def first_not_finite(model: nn.Module, clips: Tensor) -> str:
    """What is the first, on the way from clips to logits, that is not finite; else the loss."""
    if not finite(clips):
        return "the clips"
    for name, x in model.named_parameters():
        if not finite(x):
            return f"the parameter {name}"
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not finite(output):
                found.append(f"the output of {name}")

        return hook

    hooks = [x.register_forward_hook(look(name)) for name, x in model.named_modules() if name]
    try:
        with torch.no_grad():
            if not finite(model(clips)) and not found:
                found.append("the logits")
    finally:
        for x in hooks:
            x.remove()
    return found[0] if found else "the loss"


def finite(x: Any) -> bool:
    """Whether all numbers of a tensor, or of what holds some, are finite."""
    if isinstance(x, Tokens):
        return finite(x.hidden) and finite(x.residual)
    if isinstance(x, (tuple, list)):
        return all(finite(y) for y in x)
    return not isinstance(x, Tensor) or bool(torch.isfinite(x).all())
