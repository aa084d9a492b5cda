"""The end of a server: it takes no new requests, and lets those that run come to theirs."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from . import failures
from .exchange import Exchange, current

ALWAYS = frozenset({"/health", "/ready", "/metrics"})
UI_PATH = "/ui"  # a page keeps connections open for as long as somebody looks at it: nothing waits for that
RETRY_SECONDS = 1  # a balancer has another server by then


class Drain:
    """What runs, and whether more may come. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self.is_draining = False
        self._running: set[Exchange] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def num_running(self) -> int:
        """Requests that have no whole answer yet."""
        return len(self._running)

    def begin(self) -> None:
        """Take no new requests."""
        self.is_draining = True

    async def wait(self, seconds: float) -> bool:
        """Whether everything that runs has ended within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def cancel(self) -> None:
        """End everything that runs with what it has."""
        for exchange in self._running:
            exchange.cancel()

    def enter(self, exchange: Exchange) -> None:
        """A request runs."""
        self._running.add(exchange)
        self._empty.clear()

    def leave(self, exchange: Exchange) -> None:
        """It has its answer."""
        self._running.discard(exchange)
        if not self._running:
            self._empty.set()


class Gate:
    """ASGI middleware that turns requests away while the server drains.

    Args:
        app: what answers.
        drain: what is let in is counted there.
    """

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self.app = app
        self.drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = current()
        if scope["type"] != "http" or scope["path"] in ALWAYS or exchange is None:
            await self.app(scope, receive, send)
            return
        if self.drain.is_draining:
            answer = failures.answer(503, "the server is shutting down; ask another, or again.", code="shutting_down")
            answer.headers.update({"retry-after": str(RETRY_SECONDS), "connection": "close"})
            await answer(scope, receive, send)
            return
        if scope["path"].startswith(f"{UI_PATH}/"):
            await self.app(scope, receive, send)
            return
        self.drain.enter(exchange)
        try:
            await self.app(scope, receive, send)
        finally:
            self.drain.leave(exchange)
