"""`StopAsked`: SIGTERM and Ctrl-C end a loop where it can be gone on from."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopAsked:
    """While it is entered, the first signal only sets `asked`; the second raises KeyboardInterrupt at once.

    `at_once` makes the first one raise too: while nothing is computed that would be lost.
    Outside the main thread, where Python takes no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.asked = self.at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopAsked":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked or self.at_once:
            raise KeyboardInterrupt
        self.asked = True
