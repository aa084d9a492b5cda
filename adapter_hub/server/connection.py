"""A connection that gives a client so long to send a request, and no longer."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """uvicorn's connection, closed when the headers of a request, or a body that nobody reads, take too long.

    uvicorn has a limit for idle connections alone, which the first byte of a request lifts.
    """

    read_timeout: float = 0.0
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what came, and go on waiting where that was not all."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for what is left of a request that was answered before it was whole."""
        super().on_response_complete()
        if self.conn.their_state is not h11.IDLE:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        is_answered = self.cycle is not None and self.cycle.response_complete
        awaits_headers = self.conn.their_state is h11.IDLE
        awaits_rest = is_answered and self.conn.their_state is h11.SEND_BODY
        if not (awaits_headers or awaits_rest) or not self.read_timeout:
            self._stop()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.read_timeout, self._too_slow)

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
