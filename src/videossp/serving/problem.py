"""`Problem`: a request that cannot be answered, as a status of HTTP and one line."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from videossp.system.printable import printable

READING = (400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503, 507)  # of requests with a body
LOOKING = (401, 403, 404, 422)  # of requests that name an adapter or a job


class Problem(Exception):
    """The answer to a request in place of a result.

    Args:
        status: of HTTP.
        detail: one line that says what to do.
        headers: of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, printable(detail), dict(headers or {})


def too_many(what: str, limit: int) -> Problem:
    """The answer 429: try again in a second."""
    detail = f"too many {what}: {limit} wait or are computed; try again in 1 s"
    return Problem(429, detail, {"Retry-After": "1"})


def problems(statuses: tuple[int, ...], kind: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Answers of these statuses, for OpenAPI.

    Args:
        statuses: of HTTP.
        kind: of their bodies.
    """
    return {x: {"model": kind} for x in statuses}
