"""`exact_float32`: products and convolutions of float32 on a GPU with all bits, not in TF32."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

TF32_DEVICES = ("cuda",)  # device types, where torch may round float32 operands to TF32

_lock = threading.Lock()
_inside = 0  # contexts that are open, in all threads: the settings are those of the process
_restore: Callable[[], None]


def _set_exact() -> Callable[[], None]:
    """Forbid TF32; returns the function that brings the former settings back.

    torch keeps each setting twice, and reading one of the older interface raises if the two disagree. So both
    are set where they agree. The older setters come first: they change newer settings, also that of mkldnn.
    """
    backends: Any = torch.backends
    of_gpu = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    newer = [*of_gpu, backends.mkldnn.matmul]
    before = [x.fp32_precision for x in newer]
    matmul: str | None = None
    cudnn: bool | None = None
    with suppress(RuntimeError):  # the two disagree already: the user has set the newer one alone
        matmul = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        cudnn = torch.backends.cudnn.allow_tf32

    def set_all(matmul: str | None, cudnn: bool | None, values: list[str]) -> None:
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        if cudnn is not None:
            torch.backends.cudnn.allow_tf32 = cudnn
        for setting, value in zip(newer, values, strict=False):
            if setting.fp32_precision != value:
                setting.fp32_precision = value

    set_all(matmul and "highest", None if cudnn is None else False, ["ieee"] * len(of_gpu))
    return lambda: set_all(matmul, cudnn, before)


def may_use_tf32(device: torch.device) -> bool:
    """Whether `exact_float32` has something to set for this device, now."""
    return device.type in TF32_DEVICES and not torch.compiler.is_compiling()


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Compute products and convolutions of float32 tensors in IEEE float32 within this context.

    By default cuDNN's convolutions round float32 operands to TF32, which has 10 bits in place of 23, and a
    program may have allowed it for matrix products. A backward reads the settings when it runs: enter the
    context around it too. The settings hold for all threads of the process; the user's return at the end of
    the outermost context.

    Nothing is set for a CPU, and while torch.compile or torch.export traces: enter the context around the
    call of compiled code.

    Args:
        device: where the tensors are.
    """
    global _inside, _restore
    if not may_use_tf32(device):
        yield
        return
    with _lock:
        if not _inside:
            _restore = _set_exact()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _restore()
