"""`Problem`: a request that cannot be answered, as a status of HTTP and one line."""

from collections.abc import Mapping

from videossp.system.printable import printable


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


def too_many(what: str, limit: int, wait: float = 1.0) -> Problem:
    """The answer 429: try again later."""
    seconds = max(1, round(wait))
    detail = f"too many {what}: {limit} wait or are computed; try again in {seconds} s"
    return Problem(429, detail, {"Retry-After": str(seconds)})
