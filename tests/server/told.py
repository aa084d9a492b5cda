"""An app with the server's operations around a few routes of its own, and requests to it in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, HTTPException, Request
from starlette.concurrency import run_in_threadpool

from adapter_hub import AdapterHub
from adapter_hub.config import ServerSettings
from adapter_hub.server import create_app
from adapter_hub.server.exchange import note, watch
from adapter_hub.server.service import caller_of


def told_app(hub: AdapterHub, tracing: Any = None, **settings: Any) -> FastAPI:
    """The server's app with routes of its own: one reads, one generates, one fails, one finds nothing, one waits."""
    app = create_app(hub, ServerSettings(**settings), tracing=tracing)
    app.state.may_end = asyncio.Event()

    @app.post("/told/read")
    async def read(request: Request) -> int:
        return len(await request.body())

    @app.post("/told/say")
    async def say(request: Request, model: str = "base", new: int = 3, n: int = 1) -> list[str]:
        await caller_of(request)
        note(model=model)
        asked, prompt = None if model == "base" else model, (await request.body()).decode()

        def start() -> list[Any]:
            generations = [hub.submit(prompt, adapter=asked, max_new_tokens=new, ignore_eos=True) for _ in range(n)]
            for generation in generations:
                watch(generation)
            note(prompt_tokens=len(generations[0].row.ids))
            return generations

        generations = await run_in_threadpool(start)
        return [(await run_in_threadpool(generation.result)).text for generation in generations]

    @app.get("/told/fail")
    async def fail() -> None:
        raise ZeroDivisionError("the secret of the route")

    @app.get("/told/lack")
    async def lack() -> None:
        raise HTTPException(404, "there is no such thing here")

    @app.get("/told/wait")
    async def wait() -> str:
        await app.state.may_end.wait()
        return "done"

    return app


@asynccontextmanager
async def client_of(app: FastAPI, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Requests to an app in this event loop; what fails inside it comes as an answer, as it does over a network."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", **options) as client:
        yield client


def ask(app: FastAPI, do: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """Run ``do`` with a client of an app."""

    async def run() -> Any:
        async with client_of(app) as client:
            return await do(client)

    return asyncio.run(run())
