"""`Source`: what is watched: a file, a pipe, a camera or a stream of the network."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
from av.error import ExitError, FFmpegError

from videossp.data.video.container import FORMATS, reason_of, video_stream
from videossp.data.video.limits import max_pixels
from videossp.errors import DataError

Kind = Literal["file", "pipe", "camera", "network"]
SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "tcp")
# FFmpeg opens what a stream names, such as the parts of a playlist, by these protocols only: no local file.
PROTOCOLS = "rtsp,rtsps,rtp,udp,tcp,http,https,httpproxy,tls,crypto"
TIMEOUT = 15.0  # seconds without data after which a stream counts as lost
UNTIMED = 0x80  # AVFMT_NOTIMESTAMPS: the format has no times, FFmpeg makes them up


@dataclass(frozen=True)
class Source:
    """A source of frames.

    Attributes:
        name: a path, a URL, or "-" for stdin.
        kind: of the source.
    """

    name: str
    kind: Kind

    @classmethod
    def of(cls, name: str | os.PathLike[str]) -> "Source":
        """The source of this name. A file of that name comes first.

        Raises:
            ValueError: a URL whose protocol is not one of `SCHEMES`.
            DataError: there is no such file.
        """
        text = os.fspath(name)
        if text == "-":
            return cls(text, "pipe")
        try:
            mode = os.stat(text).st_mode
        except (OSError, ValueError):
            scheme, found, _ = text.partition("://")
            if not found:
                raise DataError(f"{text}: no such file; a stream has a URL, as rtsp://HOST/PATH") from None
            if scheme.lower() not in SCHEMES:
                known = ", ".join(SCHEMES)
                raise ValueError(f"{masked(text)}: no protocol {scheme!r}; there are {known}") from None
            return cls(text, "network")
        if stat.S_ISCHR(mode):
            return cls(text, "camera")
        return cls(text, "pipe" if stat.S_ISFIFO(mode) else "file")

    @property
    def shown(self) -> str:
        """The name for people and for outputs, without user, password and query of a URL."""
        return "stdin" if self.name == "-" else masked(self.name) if self.kind == "network" else self.name

    @property
    def path(self) -> Path:
        """The path of a file."""
        return Path(self.name)


def masked(url: str) -> str:
    """A URL with *** in place of user, password and query, which may hold a password, too."""
    scheme, _, rest = url.partition("://")
    if "@" in rest:  # up to the last one: a password may hold any character
        rest = "***@" + rest.rpartition("@")[2]
    return f"{scheme}://{re.sub(r'[?#].*', '?***', rest, flags=re.DOTALL)}"


@dataclass(frozen=True)
class Connection:
    """An opened source.

    Attributes:
        container, stream: of PyAV.
        live: whether frames come at the pace of a clock, and are lost if nobody reads them.
        timed: whether the format stores times.
    """

    container: "av.container.InputContainer"
    stream: "av.VideoStream"
    live: bool
    timed: bool


@contextmanager
def as_source_error(source: Source, problem: str) -> Iterator[None]:
    """Turn an error of FFmpeg into a DataError, which names the source without its password."""
    try:
        yield
    except (FFmpegError, OSError) as error:
        # FFmpeg's error holds the whole URL, which a traceback would show.
        cause = None if source.kind == "network" else error
        raise DataError(f"{source.shown}: {problem}: {why_lost(error)}") from cause


def why_lost(error: Exception) -> str:
    """The text of an error of FFmpeg. It reports a time-out as an exit."""
    return f"no data for {TIMEOUT:g} s" if isinstance(error, ExitError) else reason_of(error)


def connect(source: Source) -> Connection:
    """Open a source. Nothing but the source is read, and no frame above the limit is decoded.

    Raises:
        DataError: it cannot be opened, or has no video.
    """
    name, options = source.name, {"max_pixels": str(max_pixels())}
    whitelist = {"format_whitelist": FORMATS, "protocol_whitelist": "file,pipe"}
    settings: dict[str, Any] = {}
    if source.kind == "pipe":
        name = "pipe:0" if name == "-" else f"file:{name}"
    elif source.kind == "file":
        name = f"file:{name}"
    elif source.kind == "camera":
        settings["format"], whitelist["format_whitelist"] = "v4l2", "video4linux2,v4l2"
    else:
        whitelist = {"format_whitelist": f"{FORMATS},rtsp,hls", "protocol_whitelist": PROTOCOLS}
        settings["timeout"] = (TIMEOUT, TIMEOUT)
        if name.lower().startswith("rtsp"):
            options["rtsp_flags"] = "prefer_tcp"  # UDP loses packets
    with as_source_error(source, "cannot be opened"):
        container = av.open(
            name, options=options, container_options=whitelist, metadata_errors="ignore", **settings
        )
    try:
        stream = video_stream(container, source.shown)
    except Exception:
        container.close()
        raise
    live = source.kind == "camera" or (source.kind == "network" and not _has_an_end(source, container))
    return Connection(container, stream, live, not container.format.flags & UNTIMED)


def _has_an_end(source: Source, container: "av.container.InputContainer") -> bool:
    """Whether a URL names a recording of known length on a web server, which waits for its reader."""
    if not source.name.lower().startswith("http"):
        return False
    return (container.duration or 0) > 0 if "hls" in container.format.name else container.size > 0
