"""Choice of implementation by device and dtype; `kernels("torch")` selects plain torch everywhere."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from videossp.ops.triton_ready import why_not_triton
from videossp.system.warn import warn

CHOICES = ("auto", "torch")
VARIABLE = "VIDEOSSP_KERNELS"
TRITON_DEVICES = ("cuda",)  # device types that the kernels of Triton compute on; ROCm's is "cuda" too
KERNEL_DTYPES = (torch.float32, torch.bfloat16)

_told = False
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


def triton_is_usable() -> bool:
    """Whether kernels of Triton can run on the GPUs of this process."""
    return not why_not_triton()


@cache
def mamba_ssm_is_built() -> bool:
    """Whether mamba_ssm is installed with the kernel of this scan, which its default build leaves out."""
    return bool(find_spec("mamba_ssm") and find_spec("selective_scan_cuda"))


def scan_kernel(device: torch.device, dtype: torch.dtype) -> str:
    """The scan of this device and dtype: "numba", "triton", "mamba_ssm" or "chunked" (plain torch)."""
    if _choice == "auto" and dtype != torch.float64:
        if device.type in TRITON_DEVICES and triton_is_usable():
            return "triton"
        if device.type == "cpu":
            return "numba"
        if device.type == "cuda" and mamba_ssm_is_built():
            return "mamba_ssm"
    return "chunked"


def fused_on_gpu(*tensors: Tensor | None) -> bool:
    """Whether the fused kernels of Triton can compute with these tensors, also while torch.compile traces."""
    return (
        all(x is None or (x.device.type in TRITON_DEVICES and x.dtype in KERNEL_DTYPES) for x in tensors)
        and _choice == "auto"
        and triton_is_usable()
    )


def fits_a_grid(clips: int) -> bool:
    """Whether a grid of CUDA can have this many clips on its second axis.

    Not asked while torch.compile or torch.export traces: the answer would bound the batch of the traced code.
    """
    return torch.compiler.is_compiling() or clips <= 65_535


def fused(*tensors: Tensor | None) -> bool:
    """Whether the fused CPU kernels can compute with these tensors.

    False while torch.compile or torch.export traces: the compiler fuses plain torch operations itself.
    """
    return (
        _choice == "auto"
        and not torch.compiler.is_compiling()
        and all(x is None or (x.device.type == "cpu" and x.dtype in KERNEL_DTYPES) for x in tensors)
    )


def learning(*tensors: Tensor | None) -> bool:
    """Whether autograd records an operation on these tensors, whose backward then needs what it keeps."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def tell_why_not_triton(device: torch.device) -> None:
    """Warn once in a process, on a GPU where Triton cannot be used: why, and what computes instead."""
    global _told
    if _told or _choice != "auto" or device.type not in TRITON_DEVICES or torch.compiler.is_compiling():
        return
    if reason := why_not_triton():
        _told = True
        fallback = "mamba_ssm" if mamba_ssm_is_built() else "plain torch, which is many times slower"
        warn(f"{reason}. The scan on {device.type} is computed by {fallback}")


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
