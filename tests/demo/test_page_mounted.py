"""The page below a path of somebody's FastAPI app: the same page, over that app's hub."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import expect

from demo.app import mount

from .browser import PATIENCE

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def mounted(served) -> Iterator[str]:
    """The address of a bare app with the page at /ui."""

    async def make() -> FastAPI:
        app = FastAPI()
        app.get("/health")(lambda: {"fine": True})
        return mount(app, served.hub, path="/ui")

    with ThreadPoolExecutor(1) as thread:
        app = thread.submit(asyncio.run, make()).result()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        running = threading.Thread(target=server.run, args=([own],), daemon=True)
        running.start()
        yield f"http://127.0.0.1:{own.getsockname()[1]}"
        server.should_exit = True
        running.join(20)


def test_the_page_answers_there_and_the_app_goes_on(sessions, served, mounted):
    session = sessions(f"{mounted}/ui/")
    session.answer_at_most(8)
    session.pick(served.adapters[0])
    session.send(QUESTION)
    session.wait_for_answers(1)
    assert httpx.get(f"{mounted}/health").json() == {"fine": True}
    session.tab("Adapters")
    expect(session.page.locator("#hub-adapters")).to_contain_text("has no login", timeout=PATIENCE)


def test_it_is_the_page_that_the_demo_serves_alone(served, mounted):
    alone, below = (httpx.get(f"{at}config").json() for at in (served.address, f"{mounted}/ui/"))
    for part in ("css", "theme", "theme_hash", "footer_links", "title", "fill_width", "enable_queue"):
        assert below.get(part) == alone.get(part), part
    assert "hub-heat" in str(below["css"])
    themes = [httpx.get(f"{at}theme.css").text for at in (served.address, f"{mounted}/ui/")]
    assert themes[0] == themes[1] != ""


def test_the_app_may_say_who_is_let_in(served):
    async def make() -> FastAPI:
        return mount(FastAPI(), served.hub, path="/ui", auth_dependency=lambda request: request.headers.get("x-user"))

    with ThreadPoolExecutor(1) as thread:
        client = TestClient(thread.submit(asyncio.run, make()).result())
    assert client.get("/ui/config").status_code == 401
    assert client.get("/ui/config", headers={"x-user": "anna"}).status_code == 200
