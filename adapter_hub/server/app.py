"""The application: every route of a server over one hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from .. import __version__
from ..config import ServerSettings
from ..hub import AdapterHub
from . import adapters, failures, insight
from .discovery import Discovery
from .folders import Folders
from .rights import Rights
from .service import Service


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    discovery = Discovery(service.hub, service.folders)
    async with discovery.running(watch=service.settings.watch_folders):
        yield


def create_app(hub: AdapterHub, settings: ServerSettings | None = None) -> FastAPI:
    """The server's application (ASGI) over a hub, which stays its caller's to close."""
    app = FastAPI(title="adapter_hub", version=__version__, docs_url="/docs", redoc_url=None, lifespan=_lifespan)
    settings = settings or ServerSettings.from_environment()
    app.state.service = Service(hub, settings, Rights(hub.registry, settings), Folders(settings))
    failures.add_handlers(app)
    for router in (adapters.router, insight.router, *hub.plugins.server_routes()):
        app.include_router(router)
    return app
