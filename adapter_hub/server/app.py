"""The application: every route of a server over one hub."""

from __future__ import annotations

from fastapi import FastAPI

from .. import __version__
from ..config import ServerSettings
from ..hub import AdapterHub
from . import chat, completions, failures, models
from .rights import Rights
from .service import Service


def create_app(hub: AdapterHub, settings: ServerSettings | None = None) -> FastAPI:
    """The server's application (ASGI) over a hub, which stays its caller's to close."""
    app = FastAPI(title="adapter_hub", version=__version__, docs_url="/docs", redoc_url=None)
    app.state.service = Service(hub, settings or ServerSettings.from_environment(), Rights())
    failures.add_handlers(app)
    app.include_router(chat.router)
    app.include_router(completions.router)
    app.include_router(models.router)
    return app
