"""The server's application in process, over a tiny base, with callers of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from peft import LoraConfig
from starlette.testclient import TestClient

from adapter_hub import AdapterHub
from adapter_hub.config import ServerSettings
from adapter_hub.server import create_app

from ..models import save_adapter

LOCAL = "http://localhost:8000"


def save_some(base: Path, root: Path, *names: str) -> Path:
    """A folder with an adapter under each name, each another one."""
    plain = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    for k, name in enumerate(names):
        save_adapter(base, root / name, plain, seed=k)
    return root


def make_app(hub: AdapterHub, **settings: object) -> FastAPI:
    """The application."""
    return create_app(hub, ServerSettings(**settings))


def use(client: httpx.Client, model: str, secret: str) -> httpx.Response:
    """A text of two tokens by a model."""
    return client.post("/v1/completions", json=asking(model), headers=bearer(secret))


def asking(model: str) -> dict[str, object]:
    """The body of such a request."""
    return {"model": model, "prompt": "w1 w2", "max_tokens": 2, "temperature": 0}


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
