"""The demo: one page on which a frozen base answers with whichever adapter each request picks."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

import gradio as gr

from adapter_hub import AdapterHub, Settings
from adapter_hub.errors import SettingError

from .catalog import register_demo_adapters
from .chat_tab import ChatTab
from .look import CSS_FILE, ICON_FILE, theme
from .markup import header

PORTS = range(7860, 7960)


def run(
    *,
    host: str,
    port: int | None,
    open_browser: bool,
    base: str | None,
    quantization: str | None,
    settings: Settings,
) -> None:
    """Load the base, register the demo's adapters in memory and serve the page until interrupted.

    Args:
        host: address to listen on.
        port: port to listen on; None takes the first free one from 7860 on, 0 any.
        open_browser: open the page in the user's browser.
        base: Hub id or folder; None takes the embedded default.
        quantization: ``"nf4"`` or None, for the base.
        settings: the hub's settings; its registry file is left alone.

    Raises:
        AdapterHubError: the base cannot be loaded, or the address cannot be listened on.
    """
    with AdapterHub.from_pretrained(base, quantization=quantization, settings=settings) as hub:
        notices = register_demo_adapters(hub)
        serve(build_page(hub, notices), host=host, port=port, open_browser=open_browser)


def build_page(hub: AdapterHub, notices: Sequence[str] = ()) -> gr.Blocks:
    """The page over a hub; ``notices`` are sentences to show below its header."""
    with gr.Blocks(title="adapter_hub", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(header(hub.report(), notices), elem_id="hub-header", js_on_load=None, apply_default_css=False)
        chat = ChatTab(hub)
        page.load(chat.refresh, chat.picker, chat.picked, queue=False, api_visibility="private")
    page.queue(api_open=False)
    return page


def serve(page: gr.Blocks, *, host: str, port: int | None = None, open_browser: bool = False, wait: bool = True) -> str:
    """Serve the page, by default until interrupted; returns its address.

    Raises:
        SettingError: the address cannot be listened on.
    """
    _, address, _ = page.launch(
        server_name=host,
        server_port=_free_port(host, port),
        inbrowser=open_browser,
        prevent_thread_lock=True,
        theme=theme(),
        css_paths=CSS_FILE,
        favicon_path=str(ICON_FILE),
        footer_links=[],
        # Nothing leaves the machine, and no conversation is kept in the browser.
        share=False,
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        inline=False,
        quiet=True,
        show_error=True,
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
