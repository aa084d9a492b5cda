"""What the routes of one server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from fastapi import Request

from .. import cores
from ..config import ServerSettings
from ..hub import AdapterHub
from ..store import ADMIN, INFER
from .folders import Folders
from .limits import Limits
from .rights import Caller, Rights

__all__ = ["ADMIN", "INFER", "Service", "admin_of", "caller_of", "service_of"]
LONG_JOBS = 4
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Service:
    """One hub behind HTTP.

    Args:
        hub: runs the requests.
        settings: the server's own.
        rights: who may do what.
        folders: what may be registered over HTTP.
        limits: what each key has used.
    """

    hub: AdapterHub
    settings: ServerSettings
    rights: Rights
    folders: Folders
    limits: Limits = field(default_factory=Limits)
    _jobs: anyio.CapacityLimiter = field(default_factory=partial(anyio.CapacityLimiter, LONG_JOBS))

    async def run(self, work: Callable[..., _Made], /, *arguments: Any, **named: Any) -> _Made:
        """Run what takes long in a thread, a few at a time; it ends even when the client has gone."""

        def job() -> _Made:
            try:
                return work(*arguments, **named)
            finally:
                cores.release()

        return await anyio.to_thread.run_sync(job, limiter=self._jobs)


def service_of(request: Request) -> Service:
    """The service that a request came to; a dependency of routes."""
    found: Service = request.app.state.service
    return found


async def caller_of(request: Request) -> Caller:
    """Who sent a request, by its API key; a dependency of routes.

    Raises:
        Unauthorized: it has none, or none that is known.
        AccessError: there is no key yet, and it came from elsewhere.
    """
    headers = request.headers
    caller = service_of(request).rights.caller(
        headers.get("authorization"),
        client=None if request.client is None else request.client.host,
        host=headers.get("host"),
        origin=headers.get("origin"),
    )
    request.state.caller = caller  # for whoever writes an error out
    return caller


async def admin_of(request: Request) -> Caller:
    """As ``caller_of``, for routes that change something. Raises ``AccessError`` for a key without ``admin``."""
    caller = await caller_of(request)
    caller.require(ADMIN)
    return caller
