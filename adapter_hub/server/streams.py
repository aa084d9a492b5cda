"""Answers that go out as they come: server-sent events, as OpenAI's clients read them."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..errors import AdapterHubError
from .failures import BROKEN, body, code_of
from .running import Run

_log = logging.getLogger(__name__)


class EventStream(StreamingResponse):
    """Sends chunks, and ends the run with the response, however that ends: by a client that went away, too.

    An error after the first bytes is sent as an event, without the ``[DONE]`` after it.

    Args:
        run: what the chunks are made of.
        chunks: objects to send.
    """

    def __init__(self, run: Run, chunks: AsyncIterator[Mapping[str, Any]]) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **run.service.limits.headers(run.caller)}
        super().__init__(_events(run, chunks), media_type="text/event-stream", headers=headers)
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._run.end()


async def _events(run: Run, chunks: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[str]:
    try:
        async for chunk in chunks:
            yield _event(chunk)
    except AdapterHubError as failure:
        error = run.caller.told(failure)
        yield _event(body(error.status, str(error), code=code_of(error)))
    except Exception:
        _log.exception("a stream failed")
        yield _event(body(500, BROKEN, code="internal_error"))
    else:
        yield "data: [DONE]\n\n"


def _event(chunk: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(chunk, ensure_ascii=False, separators=(',', ':'))}\n\n"
