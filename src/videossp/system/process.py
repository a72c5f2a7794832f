"""Process-wide settings that make CPU work fast, and the memory of the process."""

import contextlib
import ctypes
import os
import re
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


def prepare_process() -> None:
    """Let threads wait without spinning, and let malloc keep freed memory. Call it before importing torch.

    The command line calls it at its start. Environment variables that the user has set are kept. The memory
    settings apply to Linux with glibc only.

    - torch's OpenMP threads spin while they wait. This takes the cores from the threads of our kernels and
      from other programs: two trainings on the same two cores slow each other down tenfold.
    - glibc returns large freed blocks to the system and requests them again page by page. For the tens of
      megabytes of every layer, that can take longer than the computation. Pages of 2 MB help as well.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def give_back_memory() -> None:
    """Return free memory inside glibc's heap to the system: up to a fifth of a fragmented heap.

    Call it before worker processes are forked. After a fork, the first write to a page copies it, even if
    nothing on the page is in use; with a large free heap these copies take seconds.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory() -> float:
    """Largest resident size of this process so far, in GB (10**9 bytes)."""
    # Not getrusage on Linux: after a fork it starts at the peak of the parent process.
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(peak[1]) * 1024 / 1e9
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset / 1e9)
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9
