"""What the routes of one server share."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from ..config import ServerSettings
from ..hub import AdapterHub
from .rights import Caller, Rights


@dataclass(frozen=True)
class Service:
    """One hub behind HTTP.

    Args:
        hub: runs the requests.
        settings: the server's own.
        rights: who may do what.
    """

    hub: AdapterHub
    settings: ServerSettings
    rights: Rights


def service_of(request: Request) -> Service:
    """The service that a request came to; a dependency of routes."""
    found: Service = request.app.state.service
    return found


async def caller_of(request: Request) -> Caller:
    """Who sent a request, by its API key; a dependency of routes.

    Raises:
        Unauthorized: it has none, or none that is known.
    """
    caller = service_of(request).rights.caller(request.headers.get("authorization"))
    request.state.caller = caller  # for whoever writes an error out
    return caller


async def admin_of(request: Request) -> Caller:
    """As ``caller_of``, for routes that change something. Raises ``AccessError`` for a key without ``admin``."""
    caller = await caller_of(request)
    caller.require(ADMIN)
    return caller


ADMIN = "admin"
INFER = "infer"
