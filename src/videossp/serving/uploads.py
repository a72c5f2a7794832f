"""`Uploads`: bodies of requests as files under random names, which are removed in any case."""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from videossp.serving.problem import Problem
from videossp.system.files import exclusive_lock

if TYPE_CHECKING:
    from starlette.requests import Request

PREFIX = "videossp-serve-"
LOCK = "lock"
STALL = 10.0  # seconds in which a client must send at least `SLOWEST` bytes per second
SLOWEST = 1000


class Budget:
    """Bytes of bodies that are received at the same time.

    Args:
        limit: of them.

    Attributes:
        used: by bodies that are not complete.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0


class Uploads:
    """A folder of this process for the bodies of requests.

    The folder has a lock. A server that starts removes the folders of servers that were killed.

    Args:
        parent: where the folder is made; None: that of the system for temporary files.
    """

    def __init__(self, parent: Path | None) -> None:
        self.parent = Path(tempfile.gettempdir()) if parent is None else parent
        self.folder: Path | None = None
        self._stack = ExitStack()

    def open(self) -> None:
        """Remove the folders of killed servers, and make the one of this server.

        Raises:
            OSError: the folder cannot be made.
        """
        remove_abandoned(self.parent)
        for last in (False, False, True):
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self.parent))
            # It is removed after the lock is released: Windows removes no open file.
            self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            try:
                self._stack.enter_context(_lock(self.folder))
                if (self.folder / LOCK).exists():
                    return
            except (OSError, ValueError):
                if last:
                    raise
            self._stack.close()  # a server that starts at the same time took it for abandoned
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def close(self) -> None:
        """Remove the folder."""
        self._stack.close()
        self.folder = None

    def _new_path(self) -> Path:
        """A path for a new file."""
        assert self.folder is not None, "the service is not started"
        if not self.folder.exists():  # systems remove old files of folders for temporary files
            try:
                self.close()
                self.open()
            except OSError as error:
                raise _no_room(error) from error
        return self.folder / token_hex(16)

    @asynccontextmanager
    async def received(
        self, request: "Request", most: int, seconds: float, budget: Budget, hint: str = ""
    ) -> AsyncIterator[Path]:
        """The body of a request as a file, which is removed at the end of the context.

        Args:
            request: whose body is read.
            most: bytes.
            seconds: to receive it.
            budget: in which it counts.
            hint: for the sender of a body that is too large.

        Raises:
            Problem: the body is empty, too large, a form, or comes too slowly; or the disk is full.
        """
        # curl --data-binary says application/x-www-form-urlencoded of any file, so only this is refused.
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise Problem(415, "send the video itself as the body, not a form: curl --data-binary @FILE")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise _too_large(most, hint)
        path = self._new_path()
        try:
            await self._receive(request, path, most, seconds, budget, hint)
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def stored(self, content: bytes) -> Iterator[Path]:
        """Bytes as a file, which is removed at the end of the context.

        Raises:
            Problem: the disk is full.
        """
        path = self._new_path()
        try:
            try:
                path.write_bytes(content)
            except OSError as error:
                raise _no_room(error) from error
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def _receive(
        self, request: "Request", path: Path, most: int, limit: float, budget: Budget, hint: str
    ) -> None:
        size, loop = 0, asyncio.get_running_loop()
        start = since = loop.time()
        before = 0
        body = request.stream()
        try:
            with path.open("xb") as file:
                async with asyncio.timeout(limit):
                    while chunk := await self._chunk(body):
                        size += len(chunk)
                        budget.used += len(chunk)
                        if size > most:
                            raise _too_large(most, hint)
                        if budget.used > budget.limit:
                            text = "too many videos are being received; try again in 5 s"
                            raise Problem(429, text, {"Retry-After": "5"})
                        if loop.time() - since > STALL:
                            if size - before < SLOWEST * STALL:
                                raise TimeoutError
                            since, before = loop.time(), size
                        file.write(chunk)
        except TimeoutError:
            raise Problem(
                408, f"the video was not received: {size} bytes in {loop.time() - start:.0f} s"
            ) from None
        except ClientDisconnect:
            raise Problem(400, "the connection ended before the video was complete") from None
        except OSError as error:
            raise _no_room(error) from error
        finally:
            budget.used -= size
        if not size:
            raise Problem(422, "the body is empty: send the video itself, as curl --data-binary @FILE does")

    async def _chunk(self, body: AsyncIterator[bytes]) -> bytes:
        """The next bytes of a body; none at its end."""
        async with asyncio.timeout(STALL):
            async for chunk in body:
                if chunk:
                    return chunk
        return b""


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of servers of this user that are not running any more."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError, ValueError):  # locked by a running server, or of another user
            if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
                continue
            with _lock(folder):
                shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)  # on Windows, the lock file is left


def _lock(folder: Path) -> AbstractContextManager[None]:
    return exclusive_lock(folder / LOCK, f"{folder}: another server uses it")


def _too_large(most: int, hint: str) -> Problem:
    return Problem(413, f"the body is larger than {most} bytes{hint}")


def _no_room(error: OSError) -> Problem:
    return Problem(507, f"the server cannot store the video: {os.strerror(error.errno or 0)}")
