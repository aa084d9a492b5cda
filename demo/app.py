"""The demo: one page on which a frozen base answers with whichever adapter each request picks."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from adapter_hub import AdapterHub, Settings
from adapter_hub.errors import SettingError

from . import conversation, markup
from .access import Access, is_loopback
from .adapters_tab import AdaptersTab
from .blend_tab import BlendTab
from .catalog import register_demo_adapters
from .chat_tab import QUIET, ChatTab
from .compare_tab import CompareTab
from .look import CSS_FILES, DROP_FILE, ICON_FILE, theme
from .plugins_tab import PluginsTab

PORTS = range(7860, 7960)
MAX_UPLOAD = "4gb"
KEPT_SECONDS = (3600, 3600)  # how often uploads that nobody added are looked for, and how old they are when they go


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
    """
    local = is_loopback(host)
    with (
        tempfile.TemporaryDirectory(prefix="adapter-hub-demo-") as uploads,
        AdapterHub.from_pretrained(base, quantization=quantization, settings=settings) as hub,
    ):
        notices = register_demo_adapters(hub)
        access = Access(controls=local if controls is None else controls, paths=local, uploads=Path(uploads))
        serve(build_page(hub, notices, access), access, host=host, port=port, open_browser=open_browser)


def mount(
    app: Any,
    hub: AdapterHub,
    *,
    path: str = "/ui",
    controls: bool = False,
    notices: Sequence[str] = (),
    auth_dependency: Callable[[Any], str | None] | None = None,
) -> Any:
    """Serve the page below ``path`` of a FastAPI app, over its hub; the same page as ``run`` serves alone.

    Args:
        app: the FastAPI app, before it starts.
        hub: whose adapters it offers; the demo's own are not registered.
        path: where.
        controls: see ``Access``: the page has no login, so whoever reaches it may then change what the hub holds.
        notices: sentences to show below the header.
        auth_dependency: gives, of a request, the name of its user; None refuses it. Without one anybody is let in.

    Returns:
        The app.
    """
    access = Access(controls=controls, uploads=Path(hub.settings.cache_dir) / "uploaded")
    page = build_page(hub, notices, access)
    # An app's icon is its own, so that of a page below a path is written into the page.
    icon = f'<link rel="icon" type="image/svg+xml" href="data:image/svg+xml,{quote(ICON_FILE.read_text())}">'
    return gr.mount_gradio_app(app, page, path, auth_dependency=auth_dependency, **_look(access, icon))


def build_page(hub: AdapterHub, notices: Sequence[str] = (), access: Access | None = None) -> gr.Blocks:
    """The page over a hub; ``notices`` are sentences to show below its header. Nobody has rights without ``access``."""
    access = access or Access()
    with gr.Blocks(title="adapter_hub", analytics_enabled=False, fill_width=True, delete_cache=KEPT_SECONDS) as page:
        header = markup.header(hub.report(), notices)
        gr.HTML(header, elem_id="hub-header", js_on_load=None, apply_default_css=False)
        with gr.Tabs(elem_id="hub-tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Chat", id="chat") as chat_tab:
                chat = ChatTab(hub)
            with gr.Tab("Compare", id="compare") as compare_tab:
                comparison = CompareTab(hub)
            with gr.Tab("Blend", id="blend") as blend_tab:
                blend = BlendTab(hub)
            with gr.Tab("Adapters", id="adapters") as adapters_tab:
                adapters = AdaptersTab(hub, access)
            with gr.Tab("Plugins", id="plugins"):
                PluginsTab(hub)
        chat_tab.select(chat.refresh, chat.picker, chat.picked, queue=False, **QUIET)
        compare_tab.select(
            comparison.refresh, comparison.ticked, [comparison.ticked, comparison.examples], queue=False, **QUIET
        )
        pair = [blend.first, blend.second]
        blend_tab.select(blend.refresh, pair, pair, queue=False, **QUIET)
        adapters_tab.select(adapters.refresh, adapters.picked, adapters.shown, queue=False, **QUIET)
        chat.compare.click(_carry_over, chat.turns, [comparison.prompt, tabs], queue=False, **QUIET)
        page.load(chat.refresh, chat.picker, chat.picked, queue=False, api_visibility="private")
    page.queue(api_open=False)
    return page


def _carry_over(turns: Sequence[conversation.Turn]) -> tuple[Any, Any]:
    """The last question that was answered, to the comparison."""
    asked = conversation.last_question(turns)
    return asked or gr.skip(), gr.Tabs(selected="compare")


def _look(access: Access, head: str = "") -> dict[str, Any]:
    """What the page is served with, alone and mounted alike; ``head`` is HTML of its own."""
    script = f"<script>{DROP_FILE.read_text()}</script>" if access.controls else ""
    return {
        "head": head + script,
        "theme": theme(),
        "css_paths": CSS_FILES,
        "footer_links": [],
        # gradio takes uploads whether a page asks for any or not.
        "max_file_size": MAX_UPLOAD if access.controls else 1,
        # Nothing leaves the machine, and no conversation is kept in the browser.
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "mcp_server": False,
        "pwa": False,
        "show_error": True,
    }


def serve(
    page: gr.Blocks,
    access: Access,
    *,
    host: str,
    port: int | None = None,
    open_browser: bool = False,
    wait: bool = True,
) -> str:
    """Serve the page, by default until interrupted; returns its address.

    Raises:
        SettingError: the address cannot be listened on.
    """
    _, address, _ = page.launch(
        server_name=host,
        server_port=_free_port(host, port),
        inbrowser=open_browser,
        prevent_thread_lock=True,
        share=False,
        inline=False,
        quiet=True,
        favicon_path=str(ICON_FILE),
        **_look(access),
    )
    if wait:
        sys.stdout.write(f"adapter_hub is on {address}\n")
        sys.stdout.flush()
        page.block_thread()
    return str(address)


def _free_port(host: str, port: int | None) -> int:
    """The port, if it can be listened on; for None the first that can; for 0 any."""
    reason: OSError | None = None
    for candidate in PORTS if port is None else (port,):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError as error:
                reason = error
            else:
                return int(probe.getsockname()[1])
    raise SettingError(
        f"the page cannot be served on {host}, port {port or f'{PORTS.start} to {PORTS.stop - 1}'}: {reason}.",
        hint="Choose another host or port.",
    ) from reason
