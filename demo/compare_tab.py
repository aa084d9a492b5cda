"""The comparison: one prompt, the base and any number of adapters side by side, in one mixed batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from adapter_hub import AdapterHub

from . import markup
from .asking import compare, sentence
from .catalog import Choice, choices, samples
from .chat_tab import MODEL, QUIET

MAX_ROWS = 16
NUM_TICKED, NUM_EXAMPLES = 2, 6


class CompareTab:
    """Builds its part of the page in the ``gr.Blocks`` that is open. All state is the session's."""

    def __init__(self, hub: AdapterHub) -> None:
        self.hub = hub
        offered = choices(hub)[1:]
        names = _names(offered)
        with gr.Column(elem_id="hub-compare"):
            self.prompt = gr.Textbox(label="Prompt", lines=2, max_lines=10, elem_id="hub-compare-prompt")
            self.examples = gr.Dataset(
                components=[gr.Textbox(visible=False)], label="Try", elem_classes="hub-examples", **_examples(offered)
            )
            self.ticked = gr.CheckboxGroup(
                names, value=names[:NUM_TICKED], label="Beside the base", elem_id="hub-ticked", elem_classes="hub-ticks"
            )
            with gr.Row(elem_classes="hub-act"):
                self.max_new_tokens = gr.Slider(8, 256, 64, step=8, label="Longest answer, in tokens", min_width=220)
                self.run = gr.Button("Compare in one batch", variant="primary", scale=0, min_width=210)
            self.result = gr.HTML(
                markup.EMPTY_COMPARISON, elem_id="hub-comparison", js_on_load=None, apply_default_css=False
            )
        self.examples.click(_first, self.examples, self.prompt, queue=False, **QUIET)
        self.run.click(self._compare, [self.prompt, self.ticked, self.max_new_tokens], self.result, **MODEL)

    def refresh(self, ticked: Sequence[str]) -> tuple[Any, ...]:
        """The adapters as the hub has them now; what is ticked and still there stays ticked."""
        offered = choices(self.hub)[1:]
        names = _names(offered)
        kept = [name for name in ticked or () if name in names]
        changed = {} if kept == list(ticked or ()) else {"value": kept}
        return gr.CheckboxGroup(choices=names, **changed), gr.Dataset(**_examples(offered))

    def _compare(self, prompt: str, ticked: Sequence[str], max_new_tokens: int) -> Iterator[str]:
        if not prompt.strip():
            yield markup.notice("Write a prompt first, or take one of the examples.")
        elif not ticked:
            yield markup.notice("Tick an adapter: the base is one side of the comparison already.")
        elif len(ticked) >= MAX_ROWS:
            yield markup.notice(f"Tick fewer adapters: {MAX_ROWS - 1} at most fit beside the base here.")
        else:
            yield markup.busy(f"{len(ticked) + 1} rows, one batch …")
            try:
                yield markup.comparison(compare(self.hub, prompt, [None, *ticked], max_new_tokens))
            except Exception as error:
                yield markup.notice(sentence(error))


def _names(offered: Sequence[Choice]) -> list[str]:
    return [choice.name for choice in offered if choice.name is not None]


def _examples(offered: Sequence[Choice]) -> dict[str, Any]:
    """The first prompt of a few adapters, under their names."""
    some = [choice for choice in offered if choice.prompts][:NUM_EXAMPLES]
    found = samples([choice.prompts[0] for choice in some])
    return {**found, "sample_labels": _names(some), "visible": bool(some)}


def _first(sample: list[str]) -> str:
    return sample[0]
