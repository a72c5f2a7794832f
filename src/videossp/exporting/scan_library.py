"""The library of the custom operator `SelectiveScan` for onnxruntime, compiled from the bundled C code."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from videossp.bundled import SCAN_SOURCE
from videossp.errors import ExportError

LIBRARY = "selective_scan.so"


def compiled_library(folder: Path) -> Path:
    """Compile the library for this machine: with $CC, else cc, gcc or clang.

    Args:
        folder: receives the library.

    Raises:
        ExportError: there is no compiler, or it failed.
    """
    compiler = (
        shlex.split(os.environ.get("CC", "")) or [x for x in ("cc", "gcc", "clang") if shutil.which(x)][:1]
    )
    if not compiler:
        raise ExportError("the custom operator needs a C compiler: install gcc or clang, or set CC")
    library = folder / LIBRARY
    # Else Apple's linker writes the path of the temporary folder into the library.
    name = [f"-Wl,-install_name,@rpath/{LIBRARY}"] if sys.platform == "darwin" else []
    command = [*compiler, "-O3", "-shared", "-fPIC", *name, "-o", str(library), str(SCAN_SOURCE)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise ExportError(
            f"the custom operator needs a C compiler: {shlex.join(compiler)}: {error}"
        ) from error
    if done.returncode or not library.exists():
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ExportError(f"the custom operator cannot be compiled: {shlex.join(command)}: {lines[-1]}")
    return library
