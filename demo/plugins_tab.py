"""The plugins: which types, formats and sources there are, who brought them, and how short one is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import gradio as gr

from adapter_hub import AdapterHub
from adapter_hub.plugin_manager import PluginInfo

from .look import ASSETS

EXAMPLE = ASSETS / "ia3_plugin.py.txt"
SHOWN = {
    "variants": "adapter types",
    "formats": "formats",
    "sources": "sources",
    "importers": "importers",
    "merge_methods": "merge methods",
    "exporters": "exporters",
    "server_routes": "server routes",
}
INVITATION = (
    "<h2>Write one</h2><p>This is all of the plugin that serves (IA)³: an object that recognises a configuration, says "
    "what is in a file, and lowers its tensors to what they do at each site. An entry point makes the module a plugin. "
    "From there on its adapters are proven, swapped, blended and batched beside all others; "
    "<code>docs/writing-a-plugin.md</code> shows the way.</p>"
)


class PluginsTab:
    """Builds its part of the page in the ``gr.Blocks`` that is open. Nothing here changes while a hub is open."""

    def __init__(self, hub: AdapterHub) -> None:
        with gr.Column(elem_id="hub-plugins"):
            gr.HTML(overview(hub.plugins.infos), js_on_load=None, apply_default_css=False)
            gr.HTML(INVITATION, elem_classes="hub-prose", js_on_load=None, apply_default_css=False)
            gr.HTML(source(EXAMPLE.read_text(encoding="utf-8")), js_on_load=None, apply_default_css=False)


def source(text: str) -> str:
    """Python as it stands, to be read and copied."""
    return f'<pre class="hub-source hub-scroll" tabindex="0" id="hub-example-plugin">{escape(text)}</pre>'


def overview(infos: Sequence[PluginInfo]) -> str:
    """What there is of each kind, and which plugin of which distribution brought it."""
    parts = []
    for kind, title in SHOWN.items():
        brought = [(name, info) for info in infos for name in getattr(info, kind)]
        rows = "".join(
            f"<tr><th scope=row>{escape(name)}</th><td>{escape(info.name)}</td>"
            f"<td>{escape(info.distribution)}</td></tr>"
            for name, info in sorted(brought, key=lambda pair: pair[0])
        )
        body = f"<tbody>{rows}</tbody>" if rows else "<tbody><tr><td colspan=3>none</td></tr></tbody>"
        parts.append(
            f"<details{' open' if kind == 'variants' else ''}><summary>{len(brought)} {title}</summary>"
            '<div class="hub-scroll" tabindex="0"><table class="hub-table"><thead><tr><th scope="col">name</th>'
            f'<th scope="col">plugin</th><th scope="col">distribution</th></tr></thead>{body}</table></div></details>'
        )
    distributions = sorted({info.distribution for info in infos})
    return (
        f'<p class="hub-quiet">{len(infos)} plugins of {", ".join(map(escape, distributions))}. The core names no '
        f'type: everything here came in through a hook.</p><div class="hub-kinds">{"".join(parts)}</div>'
    )
