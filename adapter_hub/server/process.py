"""The server as a process: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from ..config import ServerSettings
from ..errors import AdapterHubError, SettingError
from .connection import Connection
from .operations import Operations

_log = logging.getLogger(__name__)
CANCEL_SECONDS = 5.0  # what is cancelled ends with its next step; a step of a large model on a CPU takes a while


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that holds an address, on which nobody listens yet.

    Raises:
        SettingError: the address cannot be one, or is taken.
    """
    if port > 65535:
        raise SettingError(f"{host}:{port} is no address.", hint="A port is a number up to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise SettingError(f"{host}:{port} is no address: {error}.", hint="Set host and port.") from error
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except (OSError, OverflowError) as error:
        opened.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise AdapterHubError(
            f"cannot listen on {host}:{port}: {reason[:1].lower()}{reason[1:]}.",
            hint="Choose another --port or --host.",
        ) from error
    return opened


def serve(app: FastAPI, settings: ServerSettings, at: socket.socket) -> None:
    """Answer requests until a signal ends it: SIGTERM and SIGINT drain, a second one kills."""
    operations: Operations = app.state.operations
    config = uvicorn.Config(app, **config_of(settings))
    try:
        _Server(config, operations, settings.drain_seconds).run(sockets=[at])
    finally:
        operations.close()


def config_of(settings: ServerSettings) -> dict[str, Any]:
    """The arguments of ``uvicorn.Config``."""
    return {
        "http": type("Connection", (Connection,), {"read_timeout": settings.read_timeout}),
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": round(settings.keep_alive),
        "timeout_graceful_shutdown": 1,
        # While headers are not whole yet; a little more, so that what is refused is refused in words.
        "h11_max_incomplete_event_size": 2 * settings.max_header_bytes,
    }


class _Server(uvicorn.Server):
    """uvicorn, but on a signal it goes on answering, with refusals, until what runs has ended."""

    def __init__(self, config: uvicorn.Config, operations: Operations, drain_seconds: float) -> None:
        super().__init__(config)
        self.operations = operations
        self.drain_seconds = drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain; and at the second signal die of it."""
        if self._loop is None or self.operations.drain.is_draining:
            sys.stderr.flush()
            signal.signal(sig, signal.SIG_DFL)
            os.kill(os.getpid(), sig)
            return
        self.operations.drain.begin()
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        assert self._loop is not None
        self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        drain = self.operations.drain
        _log.info("stopping: %d requests have %g seconds to end", drain.num_running, self.drain_seconds)
        if not await drain.wait(self.drain_seconds):
            _log.warning("cancelling %d requests", drain.num_running)
            drain.cancel()
            await drain.wait(CANCEL_SECONDS)
        self.should_exit = True
