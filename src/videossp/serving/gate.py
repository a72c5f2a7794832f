"""`Gate`: at most so many requests at once; the others are told to come back."""

from collections.abc import Iterator
from contextlib import contextmanager

from videossp.serving.problem import too_many


class Gate:
    """Counts the requests of one kind that wait or are computed.

    Args:
        what: the requests, for the answer to those that are refused.
        limit: most of them at once.

    Attributes:
        inside: of them now.
    """

    def __init__(self, what: str, limit: int) -> None:
        self.what, self.limit, self.inside = what, limit, 0

    def check(self) -> None:
        """Raise the answer 429 if there is no room, before the body of a request is read."""
        if self.inside >= self.limit:
            raise too_many(self.what, self.limit)

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Within this context a request counts.

        Raises:
            Problem: there is no room.
        """
        self.check()
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
