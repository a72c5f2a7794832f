"""The device that computes: a CPU, a GPU of CUDA or ROCm, or Apple's MPS."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from videossp.system.process import peak_memory as peak_of_process
from videossp.system.worker_pool import core_count

Device = str | torch.device
CHOICES = "auto|cpu|cuda|cuda:N|mps"
MOST_WORKERS = 32
OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED")  # of errors that CUDA and its libraries raise


def choose_device(name: Device = "auto") -> torch.device:
    """The device of this name.

    Args:
        name: "auto" is the first GPU of CUDA or ROCm, else the CPU. MPS has no fast kernels here and is used
            only when it is named. Of several processes that torchrun started, each takes the GPU of its
            local rank, for "auto" and for "cuda". `accelerate launch --cpu` makes "auto" the CPU, by the
            variable ACCELERATE_USE_CPU.

    Raises:
        ValueError: an unknown name, or a device that this machine or this torch does not have.
    """
    text = str(name)
    kind, colon, number = text.partition(":")
    known = kind == "cuda" or (kind in ("auto", "cpu", "mps") and not colon)
    if not known or (colon and not number.isdecimal()):
        raise ValueError(f"device must be {CHOICES}, got {text!r}")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"device mps: this machine, or torch {torch.__version__}, has no MPS")
    if kind == "mps" and processes() > 1:
        raise ValueError("device mps: several processes cannot compute on it; start one, or use --device cpu")
    if kind in ("cpu", "mps"):
        return torch.device(kind)
    if kind == "auto" and os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes"):
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        if kind == "auto":
            return torch.device("cpu")
        built = torch.version.cuda or torch.version.hip
        reason = "no GPU is visible" if built else "is built without CUDA; install a build with it"
        raise ValueError(f"device {text}: torch {torch.__version__} {reason}")
    if colon and processes() > 1:
        raise ValueError(f"device {text}: each of several processes takes its own GPU; use --device cuda")
    index = int(number) if colon else int(os.environ.get("LOCAL_RANK", "0"))
    if index >= count:
        gpus = "1 GPU, cuda:0" if count == 1 else f"{count} GPUs, cuda:0 to cuda:{count - 1}"
        own = "" if colon else "; start a process for each of them, or use --device cpu"
        raise ValueError(f"device cuda:{index}: torch sees {gpus}{own}")
    return torch.device("cuda", index)


def processes() -> int:
    """Processes that were started to compute together, by torchrun or `accelerate launch`."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def describe(device: torch.device) -> str:
    """A device for people: "cpu", or "cuda:0, NVIDIA H100, 80 GB"."""
    if device.type != "cuda":
        return str(device)
    facts = torch.cuda.get_device_properties(device)
    return f"{device}, {facts.name}, {facts.total_memory / 1e9:.0f} GB"


def selected(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which kernels that are launched without a tensor run on this device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A copy of a tensor on a device; from pinned memory, the CPU does not wait for it.

    A copy to the CPU has values only after a wait. One to MPS that does not wait may read memory that is in
    use again by then.
    """
    return x.to(device, non_blocking=device.type not in ("cpu", "mps"))


def reads_late(device: torch.device) -> bool:
    """Whether the CPU reads a result only after it has queued the next work.

    A GPU computes what the CPU has queued. If the CPU waited for each result at once, the GPU would be idle
    until more is queued.
    """
    return device.type == "cuda"


def read_later(x: Tensor) -> Callable[[], Tensor]:
    """Start to copy a tensor to the CPU; the returned function waits for this copy, and returns it."""
    if x.device.type != "cuda":
        return x.cpu
    pinned = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    pinned.copy_(x, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(x.device))

    def read() -> Tensor:
        copied.synchronize()
        return pinned.clone()  # so that the pinned memory can be used again

    return read


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def is_out_of_memory(error: RuntimeError, device: torch.device) -> bool:
    """Whether an error says that the memory of a device is too small; its libraries raise several kinds."""
    on_device = device.type != "cpu" and any(x in str(error) for x in OUT_OF_MEMORY)
    return on_device or isinstance(error, torch.OutOfMemoryError)


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU's memory that this process can still use, with those that torch has reserved."""
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reserved


def peak_memory(device: torch.device) -> float:
    """Largest memory in use so far, in GB (10**9 bytes): tensors on a GPU, else the whole process."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else peak_of_process()


def default_workers(device: torch.device) -> int:
    """Worker processes that decode ahead: none on a CPU, which computes, else all cores but one."""
    if device.type == "cpu":
        return 0
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(MOST_WORKERS, core_count() // local - 1))
