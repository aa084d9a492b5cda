"""A conversation whose answers come from different adapters, with what each answer cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Swap:
    """How an adapter came to be ready: ``loaded`` tells a first use from one that was resident."""

    seconds: float
    loaded: bool


@dataclass(frozen=True)
class Pace:
    """How fast an answer came; ``tokens_per_second`` is None where one token makes no rate."""

    first_token_seconds: float
    tokens: int
    tokens_per_second: float | None


@dataclass(frozen=True)
class Turn:
    """A prompt and its answer so far.

    Args:
        prompt: what the user wrote.
        adapter: which adapter answers; None is the base.
        answer: the text so far.
        swap: how the adapter came to be ready; None for the base, and before it is known.
        pace: how fast the answer came; None until it is complete.
        finished: whether anything is still to come.
        stopped: whether the user ended it.
        error: why there is no (complete) answer, as a sentence.
    """

    prompt: str
    adapter: str | None
    answer: str = ""
    swap: Swap | None = None
    pace: Pace | None = None
    finished: bool = False
    stopped: bool = False
    error: str = ""

    @property
    def counts(self) -> bool:
        """Whether the model sees this turn again: it has an answer and did not fail."""
        return bool(self.answer) and not self.error


def messages(turns: Sequence[Turn], prompt: str) -> list[dict[str, str]]:
    """Chat messages of the conversation so far, whoever answered, and a next prompt."""
    said = []
    for turn in turns:
        if turn.counts:
            said.append({"role": "user", "content": turn.prompt})
            said.append({"role": "assistant", "content": turn.answer})
    return [*said, {"role": "user", "content": prompt}]


def last_question(turns: Sequence[Turn]) -> list[dict[str, str]] | None:
    """Chat messages up to the last prompt that was answered, without its answer; None if there is none."""
    answered = [turn for turn in turns if turn.counts]
    return messages(answered[:-1], answered[-1].prompt) if answered else None
