"""What ends a training, told in one line that says what to do; the first tensor that is not finite."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from videossp.errors import OutOfMemoryError, WorkerLostError
from videossp.model.tokens import Tokens


@contextmanager
def memory_told(levers: str) -> Iterator[None]:
    """An allocation that fails is one line that names what would need less; torch's own takes a page."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = ("can't allocate memory", "not enough memory", "out of memory")
        if not isinstance(error, MemoryError) and not any(x in str(error) for x in words):
            raise
        raise OutOfMemoryError(f"too little memory: {levers}") from error


@contextmanager
def lost_told() -> Iterator[None]:
    """What torch raises where another process is gone is one line that says what to do.

    The death of a process that decodes is raised wherever this one is just then, not only where it waits.

    Raises:
        WorkerLostError: in place of torch's RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "DataLoader worker" in text and "Bus error" in text:
            what = "a process that decodes died: its shared memory, /dev/shm, is too small"
        elif "DataLoader worker" in text:
            what = "a process that decodes died (killed, for want of memory?): fewer --workers may help"
        elif "DataLoader timed out" in text:
            what = "a process that decodes does not answer; videossp doctor finds the file"
        elif "Connection closed by peer" in text or "Connection reset by peer" in text:
            what = "another process of this training is gone, its own message says why"
        else:
            raise
        raise WorkerLostError(f"{what}; --resume goes on") from error


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
