"""`why_not_triton`: whether Triton can compile and launch kernels here, and the reason if it cannot."""

import os
import subprocess
from contextlib import redirect_stdout, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from io import StringIO

import torch

LOWEST = (3, 3)  # 3.2 has no tuples in kernels
DISTRIBUTIONS = ("triton", "triton-windows", "triton-rocm", "pytorch-triton-rocm", "pytorch-triton")


def triton_version() -> str:
    """The version of the installed Triton; "" if there is none."""
    if find_spec("triton") is None:
        return ""
    for name in DISTRIBUTIONS:
        with suppress(PackageNotFoundError):
            return version(name)
    return "unknown"


def unusable_version(number: str) -> str:
    """Why this version of Triton cannot be used, or ""."""
    if not number:
        return "Triton is not installed: pip install triton (on Windows triton-windows)"
    parts = number.split(".")[:2]
    if len(parts) == 2 and all(x.isdecimal() for x in parts) and tuple(map(int, parts)) < LOWEST:
        return f"Triton {number} is too old: install {'.'.join(map(str, LOWEST))} or newer"
    return ""


# Not in the function: torch.compile cannot trace a search for packages.
_installed = unusable_version(triton_version())
_launched: str | None = None  # why a launch failed, "" if it did not; None before the first one


def why_not_triton() -> str:
    """Why Triton cannot be used by this process, as one line; "" if it can.

    The first call on a machine with a GPU compiles and launches an empty kernel, which needs a C compiler.
    Errors of the GPU itself, such as a lack of memory, are not a reason: they are raised where they matter.
    """
    global _launched
    if _installed or torch.compiler.is_compiling():
        return _installed or _launched or ""
    if _launched is None:
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        _launched = launch_failure() if torch.cuda.is_available() and not interpreted else ""
    return _launched


def launch_failure() -> str:
    """Launch an empty kernel on the current GPU.

    Returns:
        Why that failed, or "".

    Raises:
        RuntimeError: the GPU has no memory left, or an earlier kernel failed.
    """
    try:
        from videossp.ops.triton_math import nothing_kernel

        with redirect_stdout(StringIO()):  # Triton prints a whole kernel if ptxas does not know the GPU
            nothing_kernel[(1,)](0)
    except Exception as error:  # Triton's own classes of errors are not RuntimeErrors
        of_gpu = isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError))
        if of_gpu or "out of memory" in str(error):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if "C compiler" in lines[0] or isinstance(error, (OSError, subprocess.CalledProcessError)):
            return f"Triton needs a C compiler, such as gcc, for its first launch ({lines[0]})"
        return f"Triton cannot launch a kernel ({lines[0]})"
    return ""
