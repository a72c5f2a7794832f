"""Which implementation runs an operation: by device and dtype; `kernels("torch")` asks for plain torch."""

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
    """Within this context "torch" computes everything with plain torch operations, for comparison.

    "auto", the default, takes the fastest kernel there is. The environment variable VIDEOSSP_KERNELS
    sets the default of a process. The choice is the process's, not the thread's.
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
    """Who scans tensors of this device and dtype: "numba", "mamba_ssm" or "chunked" (plain torch)."""
    if _choice == "auto" and dtype != torch.float64:
        if device.type == "cpu":
            return "numba"
        if device.type == "cuda" and find_spec("mamba_ssm"):
            return "mamba_ssm"
    return "chunked"


def fused(*tensors: Tensor | None) -> bool:
    """Whether the fused CPU kernels take these tensors.

    While torch.compile or torch.export traces, they do not: the compiler fuses plain torch by itself.
    """
    return (
        _choice == "auto"
        and not torch.compiler.is_compiling()
        and all(
            x is None or (x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16))
            for x in tensors
        )
    )


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A backward that refuses to be differentiated again, lest a part of that gradient be left out."""

    @wraps(backward)
    def refusing(*arguments: Any) -> Any:
        if torch.is_grad_enabled():  # only where create_graph asks for it
            raise RuntimeError(
                "the fused kernels have no second derivative; plain torch has: ops.dispatch.kernels('torch')"
            )
        return backward(*arguments)

    return refusing
