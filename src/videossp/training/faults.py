"""Errors that end a training as one line that says what to do; the first tensor that is not finite."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from videossp.errors import OutOfMemoryError
from videossp.model.device import OUT_OF_MEMORY, describe
from videossp.model.tokens import Tokens

TOO_LITTLE_MEMORY = ("can't allocate memory", "not enough memory", *OUT_OF_MEMORY)


@contextmanager
def explain_memory_errors(advice: str, device: torch.device) -> Iterator[None]:
    """Replace torch's page-long out-of-memory message by one line.

    Args:
        advice: the settings that need less memory.
        device: the message names it if it is not the CPU.

    Raises:
        OutOfMemoryError: one line with the advice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(x in str(error) for x in TOO_LITTLE_MEMORY):
            raise
        place = "" if device.type == "cpu" else f" on {describe(device)}"
        raise OutOfMemoryError(f"too little memory{place}: {advice}") from error


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
