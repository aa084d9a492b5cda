"""The chat: pick who answers, ask, and see what an adapter changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from adapter_hub import AdapterHub, AdapterHubError

from . import markup
from .asking import StopSignals, answer, compare, sentence
from .catalog import BASE, Choice, choice, choices, key_to_name
from .conversation import Turn, last_question

# Several sessions generate at once, each with its own adapter; more than these wait in the queue.
MAX_GENERATIONS = 8
_QUIET = {"api_visibility": "private", "show_progress": "hidden"}
_MODEL = {**_QUIET, "concurrency_limit": MAX_GENERATIONS, "concurrency_id": "model"}
_MAX_LABEL_LEN = 58
_QUESTION = "Question: "


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
                self._build_comparison()
        self.picked = [self.picker, self.card, self.examples]
        self._wire()

    def refresh(self, key: str | None) -> tuple[Any, ...]:
        """The list, card and examples as the hub has them now, for a page with this pick."""
        offered = choices(self.hub)
        picked = next((c for c in offered if c.key == key), offered[0])
        return gr.Radio(choices=list(map(_label, offered)), value=picked.key), *_shown(picked)

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
            **_samples(base),
        )
        with gr.Row(elem_id="hub-options"):
            with gr.Accordion("Settings", open=False):
                self.max_new_tokens = gr.Slider(8, 512, 96, step=8, label="Longest answer, in tokens")
                self.temperature = gr.Slider(0, 1.5, 0, step=0.1, label="Temperature (0 leaves nothing to chance)")
            self.new_chat = gr.Button("New chat", size="sm", min_width=90, scale=0)

    def _build_comparison(self) -> None:
        with gr.Column(elem_id="hub-changed"):
            with gr.Row(equal_height=False):
                gr.HTML("<h2>See what changed</h2>", js_on_load=None, apply_default_css=False)
                self.compare = gr.Button("Compare with the base", size="sm", min_width=190, scale=0)
            self.comparison = gr.HTML(
                markup.EMPTY_COMPARISON, elem_id="hub-comparison", js_on_load=None, apply_default_css=False
            )

    def _wire(self) -> None:
        self.picker.input(self._pick, self.picker, self.picked, queue=False, **_QUIET)
        self.examples.click(_first, self.examples, self.box, queue=False, **_QUIET)
        self.box.submit(
            self._ask,
            [self.box, self.turns, self.picker, self.max_new_tokens, self.temperature],
            [self.box, self.turns, self.log, self.comparison, self.new_chat],
            **_MODEL,
        )
        self.box.stop(self._stop, None, None, queue=False, **_QUIET)
        self.new_chat.click(_cleared, None, [self.turns, self.log, self.comparison], queue=False, **_QUIET)
        self.compare.click(self._compare, [self.turns, self.picker, self.max_new_tokens], self.comparison, **_MODEL)

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
            return
        turn = Turn(prompt, key_to_name(key))
        said = (*turns, turn)
        yield {
            self.box: gr.Textbox(value="", submit_btn=False, stop_btn="Stop"),
            self.turns: said,
            self.log: markup.log(said),
            self.comparison: markup.EMPTY_COMPARISON,
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

    def _compare(self, turns: tuple[Turn, ...], key: str | None, max_new_tokens: int) -> Iterator[str]:
        name, question = key_to_name(key), last_question(turns)
        if question is None:
            yield markup.notice("Ask something first; its answers are then compared.")
        elif name is None:
            yield markup.notice("Pick an adapter on the list; the base is one side of the comparison already.")
        else:
            yield '<p class="hub-quiet hub-busy">Asking both in one batch</p>'
            try:
                yield markup.comparison(compare(self.hub, question, name, max_new_tokens), name)
            except Exception as error:
                yield markup.notice(sentence(error))


def _label(offered: Choice) -> tuple[str, str]:
    """A choice for the list, in two lines, and its key."""
    return f"{offered.name or 'base'}\n{offered.title}", offered.key


def _shown(picked: Choice) -> tuple[str, Any]:
    return markup.card(picked), gr.Dataset(visible=bool(picked.prompts), **_samples(picked))


def _samples(picked: Choice) -> dict[str, Any]:
    """A choice's example prompts, each under a short label."""
    labels = [_short(prompt, picked.prompts) for prompt in picked.prompts]
    return {"samples": [[prompt] for prompt in picked.prompts], "sample_labels": labels}


def _short(prompt: str, prompts: Sequence[str]) -> str:
    """The question in a prompt, or those of its lines that are not the same in all of them."""
    lines = [line.strip() for line in prompt.splitlines() if line.strip()]
    own = [line for line in lines if len(prompts) == 1 or not all(line in other for other in prompts)] or lines
    asked = [line.removeprefix(_QUESTION) for line in own if line.startswith(_QUESTION)]
    label = " ".join(asked or own)
    return label if len(label) <= _MAX_LABEL_LEN else label[: _MAX_LABEL_LEN - 1] + "…"


def _first(sample: list[str]) -> str:
    return sample[0]


def _cleared() -> tuple[tuple[Turn, ...], str, str]:
    return (), markup.log(()), markup.EMPTY_COMPARISON
