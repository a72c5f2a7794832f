"""Choice of implementation by device and dtype; `kernels("torch")` selects plain torch everywhere."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

CHOICES = ("auto", "torch")
VARIABLE = "VIDEOSSP_KERNELS"

_choice = os.environ.get(VARIABLE, "auto")
if _choice not in CHOICES:
    raise ValueError(f"{VARIABLE}={_choice}: must be one of {', '.join(CHOICES)}")


@contextmanager
def kernels(choice: str) -> Iterator[None]:
    """Choose the implementation of every operation within this context.

    The environment variable VIDEOSSP_KERNELS sets the default of a process. The choice holds for all threads
    of the process.

    Args:
        choice: "auto", the default, takes the fastest available kernel; "torch" takes plain torch
            operations, for comparison.

    Raises:
        ValueError: any other choice.
    """
    global _choice
    if choice not in CHOICES:
        raise ValueError(f"kernels must be one of {', '.join(CHOICES)}, got {choice!r}")
    before, _choice = _choice, choice
    try:
        yield
    finally:
        _choice = before


def scan_kernel(device: torch.device, dtype: torch.dtype) -> str:
    """The scan of this device and dtype: "numba", "mamba_ssm" or "chunked" (plain torch)."""
    if _choice == "auto" and dtype != torch.float64:
        if device.type == "cpu":
            return "numba"
        if device.type == "cuda" and find_spec("mamba_ssm"):
            return "mamba_ssm"
    return "chunked"


def fused(*tensors: Tensor | None) -> bool:
    """Whether the fused CPU kernels can compute with these tensors.

    False while torch.compile or torch.export traces: the compiler fuses plain torch operations itself.
    """
    return (
        _choice == "auto"
        and not torch.compiler.is_compiling()
        and all(
            x is None or (x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16))
            for x in tensors
        )
    )


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a backward: raise RuntimeError for a second derivative, which would be incomplete."""

    @wraps(backward)
    def first_derivative(*arguments: Any) -> Any:
        if torch.is_grad_enabled():  # only with create_graph=True
            raise RuntimeError(
                "the fused kernels have no second derivative; plain torch has one: set VIDEOSSP_KERNELS=torch"
            )
        return backward(*arguments)

    return first_derivative
