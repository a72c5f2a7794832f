"""`GracefulStop`: SIGTERM and Ctrl-C end a training where it can be resumed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class GracefulStop:
    """A context in which the first signal only sets `asked`; the second raises KeyboardInterrupt at once.

    Outside the main thread it does nothing, as Python delivers signals to the main thread only.

    Attributes:
        asked: whether a signal has arrived.
    """

    def __init__(self) -> None:
        self.asked = False
        self._at_once = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "GracefulStop":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A context in which the first signal already raises KeyboardInterrupt.

        For code whose work is not lost.
        """
        if self.asked:
            raise KeyboardInterrupt
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        stop_now = self.asked or self._at_once
        self.asked, self._at_once = True, False
        if stop_now:
            raise KeyboardInterrupt
