"""The application: every route of a server over one hub."""

from __future__ import annotations

from fastapi import FastAPI

from .. import __version__
from ..config import ServerSettings
from ..hub import AdapterHub
from . import chat, completions, failures, models, operations
from .rights import Rights
from .service import Service
from .traces import Tracing, open_tracing


def create_app(hub: AdapterHub, settings: ServerSettings | None = None, *, tracing: Tracing | None = None) -> FastAPI:
    """The server's application (ASGI) over a hub, which stays its caller's to close.

    Args:
        hub: runs the requests.
        settings: None reads the environment.
        tracing: where spans go; None is where the settings or OpenTelemetry's own variables say, if they do.
    """
    app = FastAPI(title="adapter_hub", version=__version__, docs_url="/docs", redoc_url=None)
    settings = settings or ServerSettings.from_environment()
    service = app.state.service = Service(hub, settings, Rights())
    failures.add_handlers(app)
    app.include_router(chat.router)
    app.include_router(completions.router)
    app.include_router(models.router)
    operations.attach(app, service, tracing or open_tracing(settings))
    return app
