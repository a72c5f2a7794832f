"""Errors that end a training as one line that says what to do; the first tensor that is not finite."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from videossp.errors import OutOfMemoryError, WorkerLostError
from videossp.model.tokens import Tokens

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


@contextmanager
def explain_memory_errors(advice: str) -> Iterator[None]:
    """Replace torch's page-long out-of-memory message by one line.

    Args:
        advice: the settings that need less memory.

    Raises:
        OutOfMemoryError: one line with the advice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(x in str(error) for x in OUT_OF_MEMORY):
            raise
        raise OutOfMemoryError(f"too little memory: {advice}") from error


@contextmanager
def explain_lost_processes() -> Iterator[None]:
    """Replace the errors of torch about another process that is gone.

    torch raises the death of a worker process wherever this process is at that moment, not only where it
    waits for the worker.

    Raises:
        WorkerLostError: one line that says what to do.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "DataLoader worker" in text and "Bus error" in text:
            reason = "a worker process died because the shared memory, /dev/shm, is too small"
        elif "DataLoader worker" in text:
            reason = "a worker process died (killed for lack of memory?); fewer --workers may help"
        elif "DataLoader timed out" in text:
            reason = (
                "a worker process did not answer within the timeout; videossp doctor finds a file that hangs"
            )
        elif "Connection closed by peer" in text or "Connection reset by peer" in text:
            reason = "another process of this training ended; its own message says why"
        else:
            raise
        raise WorkerLostError(f"{reason}; continue the run with --resume") from error


def first_not_finite(model: nn.Module, clips: Tensor) -> str:
    """Name the first tensor that is not finite: clips, parameters, then outputs of modules in order."""
    if not is_finite(clips):
        return "the clips"
    for name, x in model.named_parameters():
        if not is_finite(x):
            return f"the parameter {name}"
    names: list[str] = []

    def check_output(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not names and not is_finite(output):
                names.append(f"the output of {name}")

        return hook

    hooks = [x.register_forward_hook(check_output(name)) for name, x in model.named_modules() if name]
    try:
        with torch.no_grad():
            if not is_finite(model(clips)) and not names:
                names.append("the logits")
    finally:
        for x in hooks:
            x.remove()
    return names[0] if names else "the loss"


def is_finite(x: Any) -> bool:
    """Whether all numbers of a tensor, or of the tensors in `Tokens`, a tuple or a list, are finite."""
    if isinstance(x, Tokens):
        return is_finite(x.hidden) and is_finite(x.residual)
    if isinstance(x, (tuple, list)):
        return all(is_finite(y) for y in x)
    return not isinstance(x, Tensor) or bool(torch.isfinite(x).all())
