"""The chat: pick who answers, ask, and switch in mid conversation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from adapter_hub import AdapterHub, AdapterHubError

from . import markup
from .asking import StopSignals, answer
from .catalog import BASE, Choice, choice, choices, key_to_name, samples
from .conversation import Turn

# Several sessions generate at once, each with its own adapter; more than these wait in the queue.
MAX_GENERATIONS = 8
QUIET = {"api_visibility": "private", "show_progress": "hidden"}
MODEL = {**QUIET, "concurrency_limit": MAX_GENERATIONS, "concurrency_id": "model"}


class ChatTab:
    """Builds its part of the page in the ``gr.Blocks`` that is open; the page then loads ``refresh``.

    What a session has chosen and said lives in the session: a request carries its own adapter, and the hub's
    default adapter is never touched.
    """

    def __init__(self, hub: AdapterHub) -> None:
        self.hub = hub
        self.stops = StopSignals()
        with gr.Row(elem_id="hub-chat"):
            with gr.Column(scale=1, min_width=300, elem_id="hub-pick"):
                self._build_picker()
            with gr.Column(scale=3, min_width=340, elem_id="hub-talk"):
                self._build_talk()
        self.picked = [self.picker, self.card, self.examples]
        self._wire()

    def refresh(self, key: str | None) -> tuple[Any, ...]:
        """The list as the hub has it now. A pick that is still there is left alone: it may have changed meanwhile."""
        offered = choices(self.hub)
        labels = list(map(_label, offered))
        if any(choice.key == key for choice in offered):
            return gr.Radio(choices=labels), gr.skip(), gr.skip()
        return gr.Radio(choices=labels, value=offered[0].key), *_shown(offered[0])

    def _build_picker(self) -> None:
        offered = choices(self.hub)
        self.picker = gr.Radio(list(map(_label, offered)), value=BASE, label="Answer with", elem_id="hub-picker")
        self.card = gr.HTML(markup.card(offered[0]), elem_id="hub-card", js_on_load=None, apply_default_css=False)

    def _build_talk(self) -> None:
        base = choice(self.hub, None)
        self.turns = gr.State(())
        self.log = gr.HTML(markup.log(()), elem_id="hub-log", js_on_load=None, apply_default_css=False, container=True)
        self.box = gr.Textbox(
            placeholder="Ask something",
            show_label=False,
            label="Your message",
            lines=1,
            max_lines=8,
            submit_btn="Ask",
            autofocus=True,
            elem_id="hub-box",
        )
        self.examples = gr.Dataset(
            components=[gr.Textbox(visible=False)],
            label="Try",
            elem_id="hub-examples",
            elem_classes="hub-examples",
            **samples(base.prompts),
        )
        with gr.Row(elem_id="hub-options"):
            with gr.Accordion("Settings", open=False):
                self.max_new_tokens = gr.Slider(8, 512, 96, step=8, label="Longest answer, in tokens")
                self.temperature = gr.Slider(0, 1.5, 0, step=0.1, label="Temperature (0 leaves nothing to chance)")
            self.compare = gr.Button("Compare", size="sm", min_width=90, scale=0, elem_id="hub-to-compare")
            self.new_chat = gr.Button("New chat", size="sm", min_width=90, scale=0)

    def _wire(self) -> None:
        self.picker.input(self._pick, self.picker, self.picked, queue=False, **QUIET)
        self.examples.click(_first, self.examples, self.box, queue=False, **QUIET)
        self.box.submit(
            self._ask,
            [self.box, self.turns, self.picker, self.max_new_tokens, self.temperature],
            [self.box, self.turns, self.log, self.new_chat],
            **MODEL,
        )
        self.box.stop(self._stop, None, None, queue=False, **QUIET)
        self.new_chat.click(_cleared, None, [self.turns, self.log], queue=False, **QUIET)

    def _pick(self, key: str | None) -> tuple[Any, ...]:
        try:
            return gr.skip(), *_shown(choice(self.hub, key_to_name(key)))
        except AdapterHubError:
            # Somebody removed it meanwhile: show the list as it is.
            return self.refresh(None)

    def _ask(
        self,
        prompt: str,
        turns: tuple[Turn, ...],
        key: str | None,
        max_new_tokens: int,
        temperature: float,
        request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:
        if not prompt.strip():
            yield {self.box: gr.skip()}  # an end without a word would empty every output, the conversation too
            return
        turn = Turn(prompt, key_to_name(key))
        said = (*turns, turn)
        yield {
            self.box: gr.Textbox(value="", submit_btn=False, stop_btn="Stop"),
            self.turns: said,
            self.log: markup.log(said),
            self.new_chat: gr.Button(interactive=False),
        }
        sampling = {"max_new_tokens": max_new_tokens, "temperature": temperature}
        with self.stops.running(str(request.session_hash)) as stop:
            for grown in answer(self.hub, turns, turn, stop, sampling):
                said = (*turns, grown)
                yield {self.turns: said, self.log: markup.log(said)}
        back = {"value": prompt} if said[-1].error else {}
        yield {
            self.box: gr.Textbox(submit_btn="Ask", stop_btn=False, **back),
            self.new_chat: gr.Button(interactive=True),
        }

    def _stop(self, request: gr.Request) -> None:
        self.stops.stop(str(request.session_hash))


def _label(offered: Choice) -> tuple[str, str]:
    """A choice for the list, in two lines, and its key."""
    return f"{offered.name or 'base'}\n{offered.title}", offered.key


def _shown(picked: Choice) -> tuple[str, Any]:
    return markup.card(picked), gr.Dataset(visible=bool(picked.prompts), **samples(picked.prompts))


def _first(sample: list[str]) -> str:
    return sample[0]


def _cleared() -> tuple[tuple[Turn, ...], str]:
    return (), markup.log(())
