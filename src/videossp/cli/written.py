"""Files and folders that verbs write: their names are checked, and unused folders are removed again."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from videossp.cli.output import first_process


@contextmanager
def out_folder(out: str | None, stem: str) -> Iterator[Path]:
    """The folder `out`, or a new one, runs/STEM-N. It is removed again if it holds nothing but its lock."""
    existed = out is not None and Path(out).exists()  # then it is the user's, empty or not
    folder = Path(out) if out else new_folder(Path("runs"), stem)
    try:
        yield folder
    finally:
        if not existed and first_process():
            remove_unused(folder)
            if not out:
                with suppress(OSError):  # it has other runs
                    folder.parent.rmdir()


def remove_unused(folder: Path) -> None:
    """Remove a folder that is empty, or that holds only a lock that no process holds."""
    from videossp.system.files import exclusive_lock
    from videossp.training.run_folder import LOCK

    lock = folder / LOCK
    with suppress(OSError, ValueError):  # it has other files, it is in use, or it was never made
        if [x.name for x in folder.iterdir()] == [LOCK]:
            with exclusive_lock(lock, f"{folder}: in use"):
                lock.unlink()
        folder.rmdir()


def new_folder(parent: Path, stem: str) -> Path:
    """Make the first free folder of parent/stem-1, parent/stem-2, ...; safe against other processes."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ValueError(f"{parent}: exists and is no folder (a link to nothing?); give --out") from error
    for number in itertools.count(1):
        try:
            (parent / f"{stem}-{number}").mkdir()
            break
        except FileExistsError:
            continue
    return parent / f"{stem}-{number}"


def output_file(flag: str, name: str | None, suffix: str) -> Path | None:
    """The file that a flag names, or None; checked before work that may take long.

    Raises:
        ValueError: it has another suffix, or its folder does not exist.
    """
    path = Path(name) if name else None
    if path and (path.suffix != suffix or not path.parent.is_dir()):
        raise ValueError(f"{flag} {path}: must be a {suffix} in a folder that exists")
    return path
