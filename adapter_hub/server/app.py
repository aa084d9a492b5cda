"""The application: every route of a server over one hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from .. import __version__
from ..config import ServerSettings
from ..hub import AdapterHub
from . import adapters, chat, completions, failures, insight, models, operations
from .discovery import Discovery
from .folders import Folders
from .rights import Rights
from .service import Service
from .traces import Tracing, open_tracing


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    discovery = Discovery(service.hub, service.folders)
    async with discovery.running(watch=service.settings.watch_folders):
        yield


def create_app(hub: AdapterHub, settings: ServerSettings | None = None, *, tracing: Tracing | None = None) -> FastAPI:
    """The server's application (ASGI) over a hub, which stays its caller's to close.

    Args:
        hub: runs the requests.
        settings: None reads the environment.
        tracing: where spans go; None is where the settings or OpenTelemetry's own variables say, if they do.
    """
    app = FastAPI(title="adapter_hub", version=__version__, docs_url="/docs", redoc_url=None, lifespan=_lifespan)
    settings = settings or ServerSettings.from_environment()
    service = Service(hub, settings, Rights(hub.registry, settings), Folders(settings))
    app.state.service = service
    failures.add_handlers(app)
    own = (chat.router, completions.router, models.router, adapters.router, insight.router)
    for router in (*own, *hub.plugins.server_routes()):
        app.include_router(router)
    operations.attach(app, service, tracing or open_tracing(settings))
    return app
