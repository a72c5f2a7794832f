"""How the Triton kernels are launched: on the GPU of their tensors, with its warps, on rows of one pitch."""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor


def on_device_of(x: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current GPU, which may be another one than that of the tensors."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


@cache
def warp(device: torch.device) -> int:
    """Threads of a warp: 32, or 64 on AMD's data-centre GPUs. Call it within `on_device_of`."""
    if device.type != "cuda" or not torch.version.hip:
        return 32
    size: int = triton.runtime.driver.active.get_current_target().warp_size
    return size


@cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def rows(x: Tensor) -> Tensor:
    """x (batch, length, width) with adjacent values in a row; a slice of wider rows is not copied."""
    return x if x.stride(2) == 1 else x.contiguous()


def even_rows(x: Tensor) -> Tensor:
    """The same, with one pitch from row to row through all clips, stride(1)."""
    batch, length, _ = x.shape
    even = batch == 1 or x.stride(0) == length * x.stride(1)
    if x.stride(2) == 1 and even:
        return x
    return x.clone(memory_format=torch.contiguous_format)  # contiguous() may keep the stride of a length of 1


def block_of(width: int) -> int:
    """Channels of a program of an elementwise kernel."""
    return min(128, int(triton.next_power_of_2(width)))


def cover(count: int, each: int) -> int:
    """Programs that cover `count` items, `each` a program."""
    return -(-count // each)
