from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import pytest
from playwright.sync_api import Browser, expect

from adapter_hub import AdapterHub
from demo.access import Access
from demo.app import build_page, serve
from demo.catalog import DEMO_ADAPTERS, register_demo_adapters

from .browser import PATIENCE, Session, chromium, executable, open_session, watch_sockets

expect.set_options(timeout=PATIENCE)

# Gradio sums up its events with pandas after each one, in two ways that pandas is giving up.
GRADIOS_OWN = (
    "ignore:'future.no_silent_downcasting':DeprecationWarning",
    "ignore:The copy keyword is deprecated:DeprecationWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name.startswith("test_page"):
            for warning in GRADIOS_OWN:
                item.add_marker(pytest.mark.filterwarnings(warning))


@dataclass(frozen=True)
class Served:
    """The page's hub and address, two adapters on it, and hosts that this process called."""

    hub: AdapterHub
    address: str
    adapters: tuple[str, str]
    strangers: list[object]


def start_page(hub: AdapterHub, access: Access, port: int = 0) -> tuple[gr.Blocks, str]:
    """A page and its address. Gradio makes an event loop for each of its locks, and leaves it open, unless one runs."""

    async def build_and_serve() -> tuple[gr.Blocks, str]:
        page = build_page(hub, (), access)
        return page, serve(page, access, host="127.0.0.1", port=port, wait=False)

    with ThreadPoolExecutor(1) as thread:  # this thread may run Playwright's loop
        return thread.submit(asyncio.run, build_and_serve()).result()


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The page over the trained adapters, with every right: one for all tests of this folder."""
    with AdapterHub.from_pretrained() as hub, pytest.MonkeyPatch.context() as patch:
        assert register_demo_adapters(hub, DEMO_ADAPTERS) == []
        strangers = watch_sockets(patch)
        access = Access(controls=True, paths=True, uploads=tmp_path_factory.mktemp("uploads"))
        page, address = start_page(hub, access)
        first, second = (info.name for info in hub.adapters()[:2])
        yield Served(hub, address, (first, second), strangers)
        page.close(verbose=False)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if executable() is None:
        pytest.skip("no chromium or google-chrome on PATH to open the page with")
    with chromium() as running:
        yield running


@pytest.fixture
def sessions(served: Served, browser: Browser) -> Iterator[Callable[..., Session]]:
    """Opens sessions; at the end none may have called another host or broken in its scripts."""
    opened: list[Session] = []

    def open_one(address: str | None = None) -> Session:
        session = open_session(browser, address or served.address)
        opened.append(session)
        expect(session.page.locator("#hub-box textarea")).to_be_visible(timeout=PATIENCE)
        return session

    yield open_one
    for session in opened:
        session.context.close()
        assert session.strangers == []
        assert session.errors == []
    assert served.strangers == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test writes adapters of its own."""
    return tmp_path / "adapters"
