"""Atomic file writes, and lock files that let one process at a time write to a folder."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

_locked: set[int] = set()  # descriptors of the locks that this process holds


def _leave_locks() -> None:
    """Close the lock files that a forked child inherited; it might keep the locks after its parent ends."""
    while _locked:
        os.close(_locked.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks)


def atomic_write(path: Path, data: str | bytes) -> None:
    """Write a file so that readers see the old content or the new one, never a part.

    A full disk or a killed process leaves an earlier file as it was, and after a power failure the new
    content is there if this function had returned. A symbolic link is replaced; its target is not written
    to. The permissions are those of a new file (0666 less the umask).

    Args:
        path: the file; its folder must exist.
        data: its content; text is encoded as UTF-8.

    Raises:
        OSError: the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.unlink(missing_ok=True)  # of a killed process with the same number
    try:
        with draft.open("xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, where the system can do that (Windows cannot open folders)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def exclusive_lock(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file, without waiting for it, until the block or the process ends.

    It excludes other processes and other uses in this process. Forked children do not share it. The lock
    belongs to the open file, not to its content: the file stays on disk and its content is not changed.

    Args:
        lock: the lock file; it is created if needed.
        refusal: message of the error if the lock is held elsewhere.

    Raises:
        ValueError: the lock is held elsewhere, or the lock file is a symbolic link.
        OSError: the file cannot be opened, or its file system has no locks.
    """
    if lock.is_symlink():
        raise ValueError(f"{lock}: a lock file must not be a symbolic link; remove it")
    # O_NOFOLLOW, where it exists, also refuses a link that appears after the check above.
    file = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    _locked.add(file)
    try:
        if not lock_descriptor(file, blocking=False):
            raise ValueError(refusal)
        yield
    finally:
        if file in _locked:  # not in a forked child
            _locked.remove(file)
            try:
                unlock_descriptor(file)  # closing is not enough if a child that is being forked has the file
            finally:
                os.close(file)
