"""`Guard`: checks that every request passes (host, site, token), headers of security, counts."""

import asyncio
import base64
import hmac
import logging
from collections.abc import Collection, Mapping, MutableMapping
from time import perf_counter
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from videossp.serving.metrics import Metrics
from videossp.system.printable import printable

OPEN = ("/health/", "/page/", "/docs", "/openapi.json")  # paths that need no token, besides the page itself
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STOPPING = "the service is stopping, and the request took too long"
log = logging.getLogger("videossp.serve")


class Guard:
    """Checks requests before the app gets them, and completes its answers.

    Args:
        app: to be guarded.
        metrics: that count.
        token: that requests must carry, but for the page and the health checks; None: none is needed.
        hosts: names in the header Host that are answered; None: all. A page of another site can make a
            browser send requests to this machine under its own name; they are refused.
    """

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, token: str | None, hosts: Collection[str] | None
    ) -> None:
        self.app, self.metrics, self.token, self.hosts = app, metrics, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, started = perf_counter(), 500, False

        async def completed(message: MutableMapping[str, Any]) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                given = {name.lower() for name, _ in message["headers"]}
                extra = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message["headers"], *(x for x in extra if x[0] not in given)]
            await send(message)

        try:
            app = self._refusal(scope) or self.app
            await app(scope, receive, completed)
        except asyncio.CancelledError:  # after SIGTERM, the time to finish is over
            if started:
                raise
            await refusal(scope, 503, STOPPING, {"Retry-After": "30"})(scope, receive, completed)
        except Exception:
            log.exception("%s %s", scope["method"], printable(scope["path"]))
            if started:
                raise
            text = "an internal error; the log of the service has the details"
            await refusal(scope, 500, text)(scope, receive, completed)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            seconds = perf_counter() - start
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            log.info("%s %s %d %.0f ms", scope["method"], route, status, 1000 * seconds)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self.hosts is not None and host_of(host) not in self.hosts:
            return refusal(scope, 403, "this host name is not served; see --host")
        if scope["method"] not in ("GET", "HEAD") and self.token is None and from_other_site(headers):
            return refusal(scope, 403, "requests of pages of other sites are refused")
        path: str = scope["path"]
        if self.token is None or path == "/" or path.startswith(OPEN):
            return None
        if hmac.compare_digest(token_of(headers.get("authorization", "")), self.token.encode()):
            return None
        answer = refusal(scope, 401, "a token is needed: Authorization: Bearer TOKEN")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer


def from_other_site(headers: Mapping[str, str]) -> bool:
    """Whether a browser sends a request for a page of another server. Programs send no such headers."""
    if "sec-fetch-site" in headers:  # also right behind a proxy that changes the header Host
        return headers["sec-fetch-site"] not in ("none", "same-origin")
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host", "")


def token_of(header: str) -> bytes:
    """The token in a header Authorization: of Bearer, or the password of Basic, which Label Studio sends."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return value.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def refusal(scope: Scope, status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An answer with one line, below /v2 as KServe has it."""
    key = "error" if scope["path"].startswith("/v2") else "detail"
    return JSONResponse({key: detail}, status, headers)


def host_of(header: str) -> str:
    """The name in a header Host, without the port."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() else header
    return name.strip("[]").lower()
