"""The outermost layer of the server: gives each request its id, and reports on it once it is over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..engine import Generation
from . import failures
from .exchange import Exchange, entered, id_of

_log = logging.getLogger(__name__)
REQUEST_ID = "x-request-id"


class Exchanges:
    """ASGI middleware around everything else.

    An exchange is over when its answer is, and with it what the hub ran for it: that of a client who went away ends
    a step later.

    Args:
        app: what answers.
        counted: told of each generation that is done, in the engine's thread.
        report: told of each exchange that is over.
    """

    def __init__(self, app: ASGIApp, counted: Callable[[Generation], None], report: Callable[[Exchange], None]) -> None:
        self.app = app
        self.counted = counted
        self.report = report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        exchange = Exchange(id_of(headers.get(REQUEST_ID)), scope["method"], scope["path"], headers)
        ending = _Ending(exchange, self.counted, self.report)
        exchange.settled = ending.settled

        async def heard() -> Message:
            message = await receive()
            exchange.is_gone |= message["type"] == "http.disconnect" and not ending.is_answered
            return message

        async def said(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                own = [(REQUEST_ID.encode(), exchange.id.encode())]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                ending.is_answered = True
            await send(message)

        start = time.perf_counter()
        try:
            with entered(exchange):
                await self._answer(exchange, scope, heard, said)
        finally:
            exchange.route = getattr(scope.get("route"), "path", None)
            exchange.caller = getattr(scope.get("state", {}).get("caller"), "name", None)
            exchange.seconds = time.perf_counter() - start
            ending.answered()

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:
            exchange.is_gone = True
        except Exception as error:
            exchange.error = type(error).__name__
            if exchange.status is not None:
                raise  # the answer has begun: all that is left is to break it off
            _log.exception("%s %s failed", exchange.method, exchange.path)
            answer = failures.answer(500, failures.BROKEN, code="internal_error")
            await answer(scope, receive, send)


class _Ending:
    """Waits for the last of an exchange's parts; all in the event loop's thread."""

    def __init__(
        self, exchange: Exchange, counted: Callable[[Generation], None], report: Callable[[Exchange], None]
    ) -> None:
        self.exchange = exchange
        self.counted = counted
        self.report = report
        self.is_answered = self.is_over = self.is_reported = False
        self.loop = asyncio.get_running_loop()

    def settled(self, generation: Generation) -> None:
        """A generation is done; from the engine's thread."""
        self.counted(generation)
        with suppress(RuntimeError):  # the loop was closed: nobody is there to be told
            self.loop.call_soon_threadsafe(self._end)

    def answered(self) -> None:
        """The answer is over."""
        self.is_over = True
        self._end()

    def _end(self) -> None:
        if self.is_over and not self.is_reported and self.exchange.is_settled:
            self.is_reported = True
            self.report(self.exchange)
