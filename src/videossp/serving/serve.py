"""`new_server`: uvicorn for the app, on a socket; addresses and tokens."""

import ipaddress
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from videossp.serving.http_protocol import HttpProtocol
from videossp.serving.service import Service

CONNECTIONS = 512  # at once; more are answered 503
BACKLOG = 2048
READ_RESULTS = 3.0  # seconds; the page asks every second
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
SHORTEST_TOKEN = 16


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach this address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(file: Path) -> str:
    """The token in a file: its first line.

    Raises:
        ValueError: it cannot be read, or is too short to be a secret.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--token-file {file}: cannot be read: {error}") from error
    token = lines[0].strip() if lines else ""
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"--token-file {file}: the first line must be a token of at least {SHORTEST_TOKEN} ASCII "
            "characters, as openssl rand -hex 32 prints"
        )
    return token


def log_to_stderr(requests: bool) -> None:
    """Write the log of the service to stderr: problems, and a line for each request if asked."""
    log = logging.getLogger("videossp.serve")
    log.setLevel(logging.INFO if requests else logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)


def new_server(
    sock: socket.socket, app: FastAPI, service: Service, started: Callable[[str], None]
) -> "Server":
    """A server whose `run(sockets=[sock])` answers requests until SIGTERM or Ctrl-C.

    Args:
        sock: of `listening`.
        app: of `make_app`.
        service: of the app.
        started: called with the URL once requests are taken.
    """
    host, port, *_ = sock.getsockname()
    name = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=max(1, round(service.settings.grace)),
    )
    return Server(config, service, lambda: started(f"http://{name}:{port}"))


class Server(uvicorn.Server):
    """uvicorn's server, which finishes jobs and requests before it stops.

    While jobs run, their results can be read, and new work is answered 503. Then uvicorn closes the socket
    and waits for the requests that run. Both take at most the grace. A second signal ends the process.

    Attributes:
        read_results: seconds after the end of a job in which its result can be read.
    """

    def __init__(self, config: uvicorn.Config, service: Service, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._service, self._started = service, started
        self.read_results = READ_RESULTS
        self._until = 0.0  # reading of the clock at which jobs must have ended; 0: not told to stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._started()

    def stop(self) -> None:
        """Take no new requests, and end when all is finished."""
        self._service.stopping = True
        self._until = time.monotonic() + self._service.settings.grace

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.stopping:
            self._service.uploads.close()
            os._exit(128 + sig)
        self.stop()

    async def on_tick(self, counter: int) -> bool:
        if self._until:
            jobs = self._service.jobs
            now = time.monotonic()
            return now > self._until if jobs.running() else now >= jobs.last_end + self.read_results
        return await super().on_tick(counter)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Raises:
        OSError: the address is not one of this machine, or is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise OSError(f"--host {host}: {error.strerror}") from error
    sock = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere, it lets two programs listen on one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)  # from now on no other program gets the port
    except OSError as error:
        sock.close()
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    return sock
