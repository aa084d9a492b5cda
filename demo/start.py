"""Starts the demo: loads the base, registers the demo's adapters and serves the page."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from adapter_hub import AdapterHub, Settings

from .access import Access, is_loopback
from .catalog import register_demo_adapters


def run(
    *,
    host: str,
    port: int | None,
    open_browser: bool,
    base: str | None,
    quantization: str | None,
    settings: Settings,
    controls: bool | None = None,
) -> None:
    """Load the base, register the demo's adapters in memory and serve the page until interrupted.

    Args:
        host: address to listen on.
        port: port to listen on; None takes the first free one from 7860 on, 0 any.
        open_browser: open the page in the user's browser.
        base: Hub id or folder; None takes the embedded default.
        quantization: ``"nf4"`` or None, for the base.
        settings: the hub's settings; its registry file is left alone.
        controls: see ``Access``; None allows them where the address is this machine's own alone.

    Raises:
        AdapterHubError: the base cannot be loaded, or the address cannot be listened on.
        ModuleNotFoundError: gradio is not installed.
    """
    if find_spec("gradio") is None:
        raise ModuleNotFoundError("No module named 'gradio'", name="gradio")
    local = is_loopback(host)
    with tempfile.TemporaryDirectory(prefix="adapter-hub-demo-") as uploads, ExitStack() as opened:
        with ThreadPoolExecutor(1) as loading:
            opening = loading.submit(AdapterHub.from_pretrained, base, quantization=quantization, settings=settings)
            from . import app  # gradio takes seconds to import, and the base seconds to load: both at once
        hub = opened.enter_context(opening.result())
        notices = register_demo_adapters(hub)
        access = Access(controls=local if controls is None else controls, paths=local, uploads=Path(uploads))
        app.serve(app.build_page(hub, notices, access), access, host=host, port=port, open_browser=open_browser)
