"""`HttpProtocol`: uvicorn's HTTP/1.1 with limits for clients that send heads, or read answers, too slowly."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD = 10.0  # seconds from the connection, or from the answer before, to the end of the head of a request
READ = 30.0  # seconds in which a client reads nothing of an answer that waits to be sent


class HttpProtocol(H11Protocol):
    """Closes a connection that sends the head of a request too slowly, or does not read its answer.

    uvicorn has no limits for that: clients that send a byte now and then, or read nothing, would keep all
    connections. After an answer, the same limit ends a connection whose client still sends the body that was
    refused.
    """

    _deadline: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        self._wait_for_head()
        super().on_response_complete()
        if not self.cycle.response_complete:  # the next request was there already
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._watch_reading(0)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch_reading(0)

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # there was an answer already, to the part of the request before; h11 would raise an error
            self.transport.close()

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(HEAD, self._end)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()  # when all has been sent
        self._watch_reading(self.transport.get_write_buffer_size())

    def _watch_reading(self, left: int) -> None:
        """Break the connection off if, after a time, no byte less is left to be sent."""
        if self._stuck is not None:
            self._stuck.cancel()
        self._stuck = self.loop.call_later(READ, self._look, left) if left else None

    def _look(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._watch_reading(left)
        else:
            self.transport.abort()
