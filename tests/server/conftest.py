from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI

from adapter_hub import AdapterHub
from adapter_hub.config import ServerSettings
from adapter_hub.server import create_app

from ..until import SECONDS


@dataclass(frozen=True)
class Served:
    """A server that runs: where it listens, its application, and uvicorn's own object."""

    url: str
    app: FastAPI
    server: uvicorn.Server


class _Server(uvicorn.Server):
    """Says when it listens, or that it never will."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.decided = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.decided.set()


@contextmanager
def serving(hub: AdapterHub, settings: ServerSettings | None = None, **options: Any) -> Iterator[Served]:
    """A real server over a hub on a free port of 127.0.0.1, in a thread, while the block runs.

    Args:
        settings: the server's own; None takes the defaults, whatever the environment says.
        options: further ones of ``uvicorn.Config``.
    """
    app = create_app(hub, settings or ServerSettings())
    server = _Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="on", **options))
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{own.getsockname()[1]}"
        thread = threading.Thread(target=server.run, args=([own],), name="test-server", daemon=True)
        thread.start()
        assert server.decided.wait(SECONDS)
        assert server.started, "the server did not start"
        try:
            yield Served(url, app, server)
        finally:
            server.should_exit = True
            thread.join(SECONDS)
            assert not thread.is_alive(), "the server did not stop"
