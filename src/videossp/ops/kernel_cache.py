"""`KernelCache`: compiled kernels on disk; a damaged file, or one of other versions, is compiled again.

Numba's own cache trusts the content of its files: one that is cut short ends every later start, and one with
a wrong byte runs as machine code.
"""

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import caching

from videossp.system.files import atomic_write

DIGEST = hashlib.sha256().digest_size
NUMBA: Any = caching  # it has no types
VERSIONS = f"{numba.__version__} {llvmlite.__version__} {np.__version__}"


class KernelCache(NUMBA.FunctionCache):  # type: ignore[misc]
    """Numba's cache of one kernel, with other files: one for each signature and processor.

    Without Numba's index, two processes that compile at once cannot mix up their files.

    Raises:
        RuntimeError: neither the folder of the package nor the user's cache folder is writable.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        locator = self._impl.locator
        self._cache_file = KernelFiles(
            Path(self.cache_path), self._impl.filename_base, f"{VERSIONS} {locator.get_source_stamp()}"
        )

    def save_overload(self, signature: Any, result: Any) -> None:
        """Write a compiled kernel. Without it (a full disk, say) the next process compiles again."""
        with suppress(OSError):
            super().save_overload(signature, result)


class KernelFiles:
    """The files of a kernel: a sha256, then the pickle of the compiled code.

    The hash covers the content and everything that the code depends on.

    Args:
        folder: of the files; shared with other kernels.
        name: start of the file names.
        state: versions of libraries and source.
    """

    def __init__(self, folder: Path, name: str, state: str) -> None:
        self.folder, self.name, self.state = folder, name, state

    def load(self, key: tuple[Any, ...]) -> Any:
        """The compiled code of a key (signature, processor, hashes), or None if there is no intact one."""
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        digest, code = content[:DIGEST], content[DIGEST:]
        return pickle.loads(code) if digest == self._digest(key, code) else None

    def save(self, key: tuple[Any, ...], data: Any) -> None:
        """Write the compiled code of a key. It replaces that of another state of the source."""
        code: bytes = NUMBA.dumps(data)
        atomic_write(self._path(key), self._digest(key, code) + code)

    def flush(self) -> None:
        """Remove the files of this kernel."""
        for path in self.folder.glob(f"{self.name}.*.nbc"):
            path.unlink(missing_ok=True)

    def _path(self, key: tuple[Any, ...]) -> Path:
        return self.folder / f"{self.name}.{hashlib.sha256(repr(key[:2]).encode()).hexdigest()[:16]}.nbc"

    def _digest(self, key: tuple[Any, ...], code: bytes) -> bytes:
        return hashlib.sha256(f"{self.state} {key!r}\n".encode() + code).digest()
