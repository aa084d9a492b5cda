"""The blend: two adapters, a slider between them, and the answer that it changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import gradio as gr

from adapter_hub import AdapterHub, AdapterHubError

from . import markup
from .asking import Stop, answer, compare, sentence
from .catalog import choice, choices, samples
from .chat_tab import MODEL, QUIET
from .conversation import Turn

MAX_NEW_TOKENS = 96
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
ABOUT = (
    '<p class="hub-quiet">A weighted sum of adapters stands wherever a name does. The sum is exact: at every site it '
    "adds up what the two do to the base, whatever their types.</p>"
)


class BlendTab:
    """Builds its part of the page in the ``gr.Blocks`` that is open. All state is the session's."""

    def __init__(self, hub: AdapterHub) -> None:
        self.hub = hub
        names = self._names()
        first, second = (*names, None, None)[:2]
        with gr.Column(elem_id="hub-blend"):
            gr.HTML(ABOUT, js_on_load=None, apply_default_css=False)
            with gr.Row():
                self.first = gr.Dropdown(names, value=first, label="From", min_width=140, elem_id="hub-from")
                self.second = gr.Dropdown(names, value=second, label="To", min_width=140, elem_id="hub-to")
                self.share = gr.Slider(0, 1, 0.5, step=0.05, label="Share of the second", min_width=240)
            self.reference = gr.HTML(
                markup.reference(blended(first, second, 0.5)), js_on_load=None, apply_default_css=False
            )
            self.prompt = gr.Textbox(label="Prompt", lines=2, max_lines=10, elem_id="hub-blend-prompt")
            self.examples = gr.Dataset(
                components=[gr.Textbox(visible=False)],
                label="Try",
                elem_classes="hub-examples",
                **self._examples(first, second),
            )
            with gr.Row(elem_classes="hub-act"):
                self.run = gr.Button("Answer", variant="primary", scale=0, min_width=120)
                self.sweep = gr.Button("Five steps in one batch", scale=0, min_width=220)
            self.result = gr.HTML("", elem_id="hub-blended", js_on_load=None, apply_default_css=False)
        self._wire()

    def refresh(self, first: str | None, second: str | None) -> tuple[Any, ...]:
        """The adapters as the hub has them now; what is chosen and still there stays chosen."""
        names = self._names()
        spare = [name for name in names if name not in (first, second)]
        boxes = []
        for chosen in (first, second):
            changed = {} if chosen in names else {"value": spare.pop(0) if spare else None}
            boxes.append(gr.Dropdown(choices=names, **changed))
        return tuple(boxes)

    def _wire(self) -> None:
        pair = [self.first, self.second, self.share]
        for chosen in (self.first, self.second):
            chosen.input(self._chosen, pair, [self.reference, self.examples], queue=False, **QUIET)
        self.share.change(_shown, pair, self.reference, queue=False, **QUIET)
        self.examples.click(_first, self.examples, self.prompt, queue=False, **QUIET)
        # A slider that is let go asks again; of several positions meanwhile, the last one is asked.
        asked = [self.prompt, *pair]
        gr.on(
            [self.share.release, self.run.click], self._answer, asked, self.result, trigger_mode="always_last", **MODEL
        )
        self.sweep.click(self._sweep, asked[:3], self.result, **MODEL)

    def _chosen(self, first: str | None, second: str | None, share: float) -> tuple[str, Any]:
        return _shown(first, second, share), gr.Dataset(**self._examples(first, second))

    def _answer(self, prompt: str, first: str | None, second: str | None, share: float) -> Iterator[str]:
        reference = blended(first, second, share)
        if (missing := _missing(prompt, reference)) is not None:
            yield missing
            return
        yield markup.busy("Summing the two, then asking …")
        try:
            for grown in answer(self.hub, (), Turn(prompt, reference), Stop(), {"max_new_tokens": MAX_NEW_TOKENS}):
                yield markup.log((grown,))
        finally:
            self._forget([reference])

    def _sweep(self, prompt: str, first: str | None, second: str | None) -> Iterator[str]:
        references = [blended(first, second, share) for share in STEPS]
        if (missing := _missing(prompt, references[0])) is not None:
            yield missing
            return
        yield markup.busy("Five rows, one batch: each its own sum …")
        try:
            labels = [f"{1 - share:.0%} {first}, {share:.0%} {second}" for share in STEPS]
            yield markup.ladder(compare(self.hub, prompt, references, MAX_NEW_TOKENS), labels)
        except Exception as error:
            yield markup.notice(sentence(error))
        finally:
            self._forget(references)

    def _forget(self, references: Sequence[str | None]) -> None:
        """Free the sums: each position of the slider would be kept until its slot is wanted."""
        for reference in references:
            if reference is not None and "*" in reference:
                with suppress(AdapterHubError):  # somebody else asks the same right now, or removed a part of it
                    self.hub.unload(reference)

    def _names(self) -> list[str]:
        return [each.name for each in choices(self.hub) if each.name is not None]

    def _examples(self, *names: str | None) -> dict[str, Any]:
        """Two prompts of each adapter."""
        found: dict[str, Any] = {"samples": [], "sample_labels": []}
        for name in names:
            with suppress(AdapterHubError):
                for key, some in samples(choice(self.hub, name).prompts[:2] if name else ()).items():
                    found[key] += some
        return {**found, "visible": bool(found["samples"])}


def blended(first: str | None, second: str | None, share: float) -> str | None:
    """The reference of a blend, as any request may write it; None where there are no two adapters to blend."""
    if first is None or second is None:
        return None
    if first == second or share <= 0:
        return first
    return second if share >= 1 else f"{first}*{1 - share:.2g}+{second}*{share:.2g}"


def _missing(prompt: str, reference: str | None) -> str | None:
    if reference is None:
        return markup.notice("Two adapters are needed here; add them on the tab Adapters.")
    return None if prompt.strip() else markup.notice("Write a prompt first, or take one of the examples.")


def _shown(first: str | None, second: str | None, share: float) -> str:
    return markup.reference(blended(first, second, share))


def _first(sample: list[str]) -> str:
    return sample[0]
