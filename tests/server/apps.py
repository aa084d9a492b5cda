"""The server's application in process, over a tiny base, with callers of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI
from peft import LoraConfig
from starlette.testclient import TestClient

from adapter_hub import AdapterHub
from adapter_hub.config import ServerSettings
from adapter_hub.server import create_app
from adapter_hub.server.rights import Caller
from adapter_hub.server.service import Service, caller_of, service_of

from ..models import save_adapter

LOCAL = "http://localhost:8000"


def save_some(base: Path, root: Path, *names: str) -> Path:
    """A folder with an adapter under each name, each another one."""
    plain = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    for k, name in enumerate(names):
        save_adapter(base, root / name, plain, seed=k)
    return root


def make_app(hub: AdapterHub, **settings: object) -> FastAPI:
    """The application, with one more route that uses an adapter for whoever may infer."""
    app = create_app(hub, ServerSettings(**settings))

    @app.get("/use/{model}")
    async def use(
        model: str, service: Annotated[Service, Depends(service_of)], caller: Annotated[Caller, Depends(caller_of)]
    ) -> dict[str, str]:
        caller.require("infer")
        caller.hold_usable(model)
        async with service.limits.entering(caller):
            done = await service.run(service.hub.generate, "w1 w2", adapter=model, max_new_tokens=2)
        service.limits.count(caller, done.prompt_tokens + len(done.token_ids))
        return {"text": done.text}

    return app


@contextmanager
def client_of(app: FastAPI, secret: str | None = None, **options: object) -> Iterator[httpx.Client]:
    """A client of an application, with a key if given; the application's life is around the block."""
    headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
    options.setdefault("client", ("127.0.0.1", 4711))
    with TestClient(app, base_url=LOCAL, headers=headers, raise_server_exceptions=False, **options) as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"authorization": f"Bearer {secret}"}
