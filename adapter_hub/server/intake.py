"""Limits on what a request may send, held before it is read."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..config import ServerSettings
from . import failures


class Intake:
    """ASGI middleware that refuses large headers and bodies, and bodies that do not come to an end.

    Args:
        app: what answers.
        settings: the limits.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        if size > self.settings.max_header_bytes:
            message = f"the headers have {size} bytes, {self.settings.max_header_bytes} are allowed."
            await failures.answer(431, message, code="headers_too_large")(scope, receive, send)
            return
        said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(said) > self.settings.max_body_bytes:
            await failures.answer(413, self._too_large(), code="body_too_large")(scope, receive, send)
            return
        await self.app(scope, self._limited(receive), send)

    def _limited(self, receive: Receive) -> Receive:
        """The body as it comes, until it is too large or too late."""
        is_whole, size = False, 0
        seconds = self.settings.read_timeout or None
        until = None if seconds is None else asyncio.get_running_loop().time() + seconds

        async def limited() -> Message:
            nonlocal is_whole, size
            if is_whole:  # what comes now is that the client went away, whenever that is
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body did not come within {seconds:g} seconds.") from None
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                is_whole = not message.get("more_body", False)
                if size > self.settings.max_body_bytes:
                    raise HTTPException(413, self._too_large())
            return message

        return limited

    def _too_large(self) -> str:
        return f"the body has more than the {self.settings.max_body_bytes} bytes that are allowed."
