"""Many prompts, each with its adapter, put to the engine at once: what every measurement of the demo goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from adapter_hub import AdapterHub, Completion


@dataclass(frozen=True)
class Question:
    """One user message, and who answers it; None is the base."""

    prompt: str
    adapter: str | None
    max_new_tokens: int


def answer_all(hub: AdapterHub, questions: Sequence[Question], title: str) -> list[Completion]:
    """The greedy answers in the order of the questions, under a progress bar.

    The engine runs them as one continuous batch: neighbours in the list are neighbours in it.
    """
    running = [
        hub.submit(
            [{"role": "user", "content": question.prompt}],
            adapter=question.adapter,
            max_new_tokens=question.max_new_tokens,
        )
        for question in questions
    ]
    return [generation.result() for generation in tqdm(running, desc=title, unit="answer")]
