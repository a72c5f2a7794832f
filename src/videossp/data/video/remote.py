"""Videos that a URI names, such as s3://bucket/a.mp4: each is copied here for as long as it is read."""

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from videossp.errors import DataError

# The import of fsspec is inside the functions: most runs read local files alone.

SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
PAUSES = (1.0, 4.0)  # seconds before another try
# A further try of these gives the same.
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, ValueError, ImportError)
EXTRAS = {"s3": "s3", "s3a": "s3"}  # extras of this package by scheme


def scheme_of(name: str) -> str | None:
    """The scheme of a URI in lower case, as s3; None for a path."""
    found = SCHEME.match(name)
    return found[1].lower() if found else None


def check_scheme(scheme: str) -> None:
    """Refuse a scheme whose library is not installed, or that no library knows.

    Raises:
        ValueError: with the command that installs the library.
    """
    from fsspec import get_filesystem_class

    try:
        get_filesystem_class(scheme)
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        advice = f"pip install 'videossp[{extra}]'" if extra else " ".join(str(error).split())
        raise ValueError(f"{scheme}:// needs a library that is not installed: {advice}") from error
    except ValueError as error:
        raise ValueError(f"{scheme}://: fsspec knows no such file system") from error


@contextmanager
def local_copy(name: str) -> Iterator[str]:
    """The path of a video on this machine, as long as the context is open.

    A path stays as it is. What a URI names is copied into the folder for temporary files (TMPDIR), under a
    name with its suffix, and removed at the end. Transient errors are followed by two more tries.

    Raises:
        DataError: the video cannot be copied; also an error inside the context, under the name of the URI.
    """
    scheme = scheme_of(name)
    if scheme is None:
        yield name
        return
    if scheme in ("file", "local"):
        from fsspec.core import url_to_fs

        yield url_to_fs(name)[1]
        return
    with tempfile.TemporaryDirectory(prefix="videossp-") as folder:
        path = str(Path(folder, "video" + PurePosixPath(name.partition("?")[0]).suffix))
        _copy(name, path)
        try:
            yield path
        except DataError as error:
            raise DataError(str(error).replace(path, name)) from error


def _copy(name: str, path: str) -> None:
    """Copy what a URI names to a file."""
    from fsspec.core import url_to_fs

    for pause in (*PAUSES, None):
        try:
            system, remote = url_to_fs(name)
            system.get_file(remote, path)
            return
        except Exception as error:  # every library has kinds of its own
            if pause is None or isinstance(error, LASTING) or "Credentials" in type(error).__name__:
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                raise DataError(f"{name}: cannot be fetched: {reason}") from error
        time.sleep(pause)
