"""`Parts`: the folder of a bulk run, with a file of rows for each shard of the list."""

import errno
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videossp.system.files import exclusive_lock
from videossp.system.rows import Row, check_settings, check_suffix, failed_rows, write_rows

MANIFEST = "manifest.json"
FORMATS = ("jsonl", "parquet")
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK)


class Claimed(Exception):
    """Another process has claimed the shard."""


@dataclass(frozen=True)
class Parts:
    """The files of a bulk run: part-00017.jsonl holds the rows of shard 17. A file is whole, or not there.

    Attributes:
        folder: of the files.
        format: jsonl or parquet.
        columns: names and types of the columns of Parquet.
    """

    folder: Path
    format: str
    columns: Mapping[str, type]

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"part-{shard:05d}.{self.format}"

    def missing(self, shards: Iterable[int]) -> list[int]:
        """The shards without a file."""
        with os.scandir(self.folder) as entries:
            present = {x.name for x in entries}
        return [x for x in shards if self.path(x).name not in present]

    @contextmanager
    def claim(self, shard: int) -> Iterator[bool]:
        """Keep other processes from a shard until the block, or this process, ends.

        A file system without locks gives no claims. Two processes may then compute the same shard. The result
        is the same, because each writes a whole file and renames it.

        Yields:
            Whether the shard has no file yet.

        Raises:
            Claimed: another process has the claim.
            OSError: the folder cannot be written.
        """
        path = self.path(shard)
        lock = path.with_name(f".{path.name}.lock")

        def remove_lock() -> None:
            # With the file, the shard is done, whichever lock a process holds. Without it, the lock stays, so
            # that all processes lock the same one.
            if path.exists():
                with suppress(OSError):  # Windows removes no open file
                    lock.unlink()

        with ExitStack() as held:
            if locked := held.enter_context(_claimed(lock)):
                held.callback(remove_lock)
            missing = not path.exists()
            if locked and missing:
                for draft in self.folder.glob(f".{path.name}.*.*"):
                    draft.unlink(missing_ok=True)  # of a process that was killed while it wrote
            yield missing

    def write(self, shard: int, rows: Sequence[Row]) -> None:
        """Write the file of a shard atomically."""
        write_rows(self.path(shard), rows, self.columns)

    def failed(self, shard: int) -> int:
        """The number of rows with an error in the file of a shard."""
        return failed_rows(self.path(shard))


@contextmanager
def _claimed(lock: Path) -> Iterator[bool]:
    """Hold a lock file; yields False if the file system has no locks.

    Raises:
        Claimed: another process holds it.
    """
    refusal = f"{lock}: another process has it"
    with ExitStack() as held:
        try:
            held.enter_context(exclusive_lock(lock, refusal))
        except ValueError as error:
            if str(error) == refusal:
                raise Claimed(refusal) from error
            raise
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            yield False
            return
        yield True


def open_parts(folder: Path, form: str, columns: Mapping[str, type], settings: Mapping[str, Any]) -> Parts:
    """The folder of a bulk run: a new one, or one of the same settings.

    Args:
        folder: made if it does not exist; its parent must.
        form: jsonl or parquet.
        columns: see `Parts`.
        settings: everything that the rows and their shards depend on; values of JSON.

    Raises:
        ValueError: the folder has parts without settings or of others, an unknown format, or Parquet without
            pyarrow.
        OSError: the folder cannot be made or written.
    """
    if form not in FORMATS:
        raise ValueError(f"the format of parts is {' or '.join(FORMATS)}, got {form!r}")
    parts = Parts(folder, form, columns)
    check_suffix(parts.path(0))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; give a folder to --out")
    if not folder.absolute().parent.is_dir():
        raise ValueError(f"{folder}: its parent folder does not exist; give another --out")
    folder.mkdir(exist_ok=True)
    manifest = folder / MANIFEST
    while True:  # two processes that start at once must not both write it
        try:
            with _claimed(folder / f".{MANIFEST}.lock"):
                if not manifest.exists() and (found := next(folder.glob("part-*"), None)):
                    raise ValueError(
                        f"{folder}: has {found.name}, but no {MANIFEST}, which tells how it was made: give "
                        "another --out"
                    )
                check_settings(folder, manifest, {**settings, "format": form}, flag="--out")
                return parts
        except Claimed:
            time.sleep(0.1)
