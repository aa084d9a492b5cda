"""The registry: what the hub holds and where, what an adapter changes, and the ways to change all that."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import gradio as gr

from adapter_hub import AdapterHub

from . import inventory, markup
from .access import Access
from .adding import adding
from .asking import sentence
from .chat_tab import MODEL, QUIET

NO_CONTROLS = (
    '<p class="hub-quiet">This page is open to others and has no login, so adapters are not added, moved or rolled '
    "back here. Whoever starts it can allow that.</p>"
)
NO_EFFECT = '<p class="hub-quiet">Pick an adapter to see which layers and sites it changes, and how much.</p>'
LOAD, UNLOAD, PIN, UNPIN, MERGE, UNMERGE = "Load", "Unload", "Pin", "Unpin", "Merge", "Unmerge"


class AdaptersTab:
    """Builds its part of the page in the ``gr.Blocks`` that is open. All state is the session's."""

    def __init__(self, hub: AdapterHub, access: Access) -> None:
        self.hub = hub
        self.access = access
        with gr.Column(elem_id="hub-adapters"):
            self.bars = _html("", "hub-bars")
            self.table = _html("", "hub-registry")
            with gr.Row(elem_classes="hub-act"):
                self.picked = gr.Dropdown([], label="Adapter", elem_id="hub-picked", min_width=180)
                if access.controls:
                    self._build_controls()
            self.said = _html("", "hub-said")
            self.effect = _html(NO_EFFECT, "hub-effect")
            if access.controls:
                self._build_adding()
            else:
                gr.HTML(NO_CONTROLS, js_on_load=None, apply_default_css=False)
        self.shown = [self.bars, self.table, self.picked]
        if access.controls:
            self.shown += [self.load, self.pin, self.merge, self.back]
        self._wire()

    def refresh(self, picked: str | None, *, pick: bool = False) -> tuple[Any, ...]:
        """Bars, table and controls as the hub has them now; what is picked and still there stays picked.

        Without ``pick`` the box itself is left alone unless that is gone: somebody may have picked again meanwhile.
        """
        report = self.hub.memory()
        standings = [inventory.Standing.of(self.hub, info, report.merged) for info in self.hub.adapters()]
        names = [standing.info.name for standing in standings]
        gone = picked is not None and picked not in names
        picked = None if gone else picked
        box = gr.Dropdown(choices=names, **({"value": picked} if gone or pick else {}))
        shown = inventory.bars(report), inventory.table(standings, picked), box
        if not self.access.controls:
            return shown
        now = next((standing for standing in standings if standing.info.name == picked), None)
        return (*shown, *_buttons(now))

    def _build_controls(self) -> None:
        self.load, self.pin, self.merge, self.back = (
            gr.Button(text, size="sm", min_width=96, scale=0, interactive=False)
            for text in (LOAD, PIN, MERGE, "Roll back")
        )

    def _build_adding(self) -> None:
        where = "A Hub repo (org/name)" + (", a folder or a file on this machine" if self.access.paths else "")
        with gr.Column(elem_id="hub-add"):
            gr.HTML("<h2>Add an adapter</h2>", js_on_load=None, apply_default_css=False)
            with gr.Row():
                with gr.Column(min_width=260):
                    self.files = gr.File(
                        file_count="multiple",
                        label="Drop its files or its folder here",
                        height=130,
                        elem_id="hub-files",
                    )
                    self.folder = gr.UploadButton("Choose a folder", file_count="directory", size="sm")
                with gr.Column(min_width=260):
                    self.ref = gr.Textbox(label=where, placeholder="org/name", elem_id="hub-ref")
                    self.name = gr.Textbox(
                        label="Call it (left out: after where it lies)", placeholder="name", elem_id="hub-name"
                    )
                    self.add = gr.Button("Add and prove", variant="primary", elem_id="hub-add-run")
            self.proof = _html("", "hub-proof-lines")

    def _wire(self) -> None:
        effect = {**MODEL, "show_progress": "minimal"}
        self.picked.input(self._pick, self.picked, [*self.shown, self.said, self.effect], **effect)
        if not self.access.controls:
            return
        for button in (self.load, self.pin, self.merge, self.back):
            button.click(self._act, [button, self.picked], [self.said, *self.shown], **MODEL)
        self.folder.upload(_uploaded, self.folder, self.files, queue=False, **QUIET)
        self.add.click(
            self._add,
            [self.files, self.ref, self.name, self.picked],
            [self.proof, self.files, *self.shown],
            **MODEL,
        )

    def _pick(self, picked: str | None) -> Iterator[tuple[Any, ...]]:
        if picked is None:
            yield *self.refresh(None), "", NO_EFFECT
            return
        yield *self.refresh(picked), "", markup.busy(f"Measuring what {picked} changes …")
        try:
            changed = inventory.heat_map(picked, self.hub.effects(picked), len(self.hub.base.sites))
        except Exception as error:
            changed = markup.notice(sentence(error))
        # Nothing else is said again: a button may have been pressed meanwhile.
        yield *[gr.skip()] * (len(self.shown) + 1), changed

    def _act(self, action: str, picked: str | None) -> Iterator[tuple[Any, ...]]:
        """Do what a button says, then show what has become of it."""
        if picked is None:
            yield markup.notice("Pick an adapter first."), *self.refresh(None)
            return
        yield markup.busy(f"{action}: {picked} …"), *[gr.skip()] * len(self.shown)
        try:
            said = f'<p class="hub-done" role="status">{escape(self._do(action, picked))}</p>'
        except Exception as error:
            said = markup.notice(sentence(error))
        yield said, *self.refresh(picked)

    def _do(self, action: str, name: str) -> str:
        """Do it; a sentence on how it went."""
        started = time.perf_counter()
        if action == LOAD:
            tier = self.hub.tier(name)
            self.hub.load_adapter(name)
            took = markup.duration(time.perf_counter() - started)
            return f"{name} is on the device now: it came from {tier} in {took}."
        if action == UNLOAD:
            self.hub.unload(name)
            return f"{name} is off the device, with what was merged of it; its files stay."
        if action == PIN:
            return f"{self.hub.pin(name).key} stays on the device when others have to go."
        if action == UNPIN:
            return f"{self.hub.unpin(name).key} may make way for others again."
        if action == MERGE:
            report = self.hub.merge(name)
            size, took = markup.num_bytes(report.bytes), markup.duration(report.seconds)
            kept = f"; {len(report.kept_sites)} sites stay beside the base" if report.kept_sites else ""
            return f"{report.merged_sites} sites of {name} are merged into {size} of {report.dtype} in {took}{kept}."
        if action == UNMERGE:
            self.hub.unmerge(name)
            return f"{name} is served by its factors again."
        return f"{name} stands for {self.hub.rollback(name).key} now."

    def _add(self, files: Sequence[str] | None, ref: str, name: str, picked: str | None) -> Iterator[tuple[Any, ...]]:
        still = [gr.skip()] * len(self.shown)
        for html, info in adding(self.hub, list(files or ()), ref, name, self.access):
            shown = still if info is None else [*self.refresh(info.name, pick=True)]
            yield html, (gr.skip() if info is None else None), *shown


def _buttons(standing: inventory.Standing | None) -> list[gr.Button]:
    """What can be done with an adapter as it stands; nothing with none."""
    if standing is None:
        return [gr.Button(text, interactive=False) for text in (LOAD, PIN, MERGE, "Roll back")]
    info = standing.info
    return [
        gr.Button(UNLOAD if standing.tier == "device" else LOAD, interactive=True),
        gr.Button(UNPIN if info.pinned else PIN, interactive=True),
        gr.Button(UNMERGE if standing.is_merged else MERGE, interactive=True),
        gr.Button("Roll back", interactive=info.version > 1),
    ]


def _html(value: str, elem_id: str) -> gr.HTML:
    return gr.HTML(value, elem_id=elem_id, js_on_load=None, apply_default_css=False)


def _uploaded(files: Sequence[str] | None) -> list[str]:
    return list(files or ())
