"""A conversation whose answers come from different adapters, with what each answer cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapter_hub import Completion


@dataclass(frozen=True)
class Swap:
    """How an adapter came to be ready: ``tier`` is where it lay when it was asked for."""

    seconds: float
    tier: str


@dataclass(frozen=True)
class Pace:
    """How fast an answer came, and by which path.

    Args:
        first_token_seconds: from the request to its first token.
        tokens: how many there are; None where the model's own ``generate`` made them, which does not tell.
        tokens_per_second: None where one token makes no rate.
        merged_tokens: how many of them came of merged weights.
    """

    first_token_seconds: float
    tokens: int | None = None
    tokens_per_second: float | None = None
    merged_tokens: int | None = None

    @classmethod
    def of(cls, done: Completion) -> Pace | None:
        """The pace of a completion, as the engine timed it."""
        if done.timing is None:
            return None
        tokens, seconds = done.completion_tokens, done.timing.total - done.timing.first_token
        rate = (tokens - 1) / seconds if tokens > 1 and seconds > 0 else None
        return cls(done.timing.first_token, tokens, rate, done.merged_tokens)


@dataclass(frozen=True)
class Turn:
    """A prompt and its answer so far.

    Args:
        prompt: what the user wrote.
        adapter: which adapter, or sum of such, answers; None is the base.
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


def last_question(turns: Sequence[Turn]) -> str:
    """The last prompt that was answered; empty if there is none."""
    return next((turn.prompt for turn in reversed(turns) if turn.counts), "")
