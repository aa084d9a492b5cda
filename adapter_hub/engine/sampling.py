"""How tokens are chosen, and what a finished generation is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..errors import RequestError

MAX_ALTERNATIVES = 20
FinishReason = Literal["stop", "length", "cancelled", "deadline"]


@dataclass(frozen=True)
class Sampling:
    """Choices of one request.

    Args:
        max_new_tokens: tokens to generate at most.
        temperature: 0 takes the likeliest token each time (greedy, deterministic).
        top_p: sample among the likeliest tokens that hold this much probability.
        top_k: sample among this many likeliest tokens; 0 is all.
        min_p: sample among tokens at least this likely, as a share of the likeliest one's probability.
        repetition_penalty: above 1 makes tokens that occurred, in the prompt or since, less likely (as in
            transformers: positive logits are divided by it, negative ones multiplied).
        presence_penalty: taken from the logit of each token that was generated (as in OpenAI's API).
        frequency_penalty: taken from it once for each time it was generated.
        logit_bias: by token id, what is added to its logit.
        stop: strings that end the text; they are not part of it.
        seed: makes drawn tokens repeatable; None draws other ones each time.
        logprobs: report the log probability of each token, and of this many likeliest ones; None reports none.
        n: completions of each prompt. With a seed, the k-th is drawn with ``seed + k``.
        ignore_eos: go on past tokens that end a text, up to ``max_new_tokens``.
        json_schema: what the text has to be: JSON that this schema (a mapping, or written as JSON) accepts.
        regex: what the text has to match from its beginning to its end, in the syntax of Rust's ``regex``.

    Raises:
        RequestError: a value is out of its range; the message names it.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int | None = None
    n: int = 1
    ignore_eos: bool = False
    json_schema: str | Mapping[str, Any] | None = None
    regex: str | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.logprobs, int) and not isinstance(self.logprobs, bool)
        limits = (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < float("inf"), "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("min_p", 0 <= self.min_p <= 1, "between 0 and 1"),
            ("repetition_penalty", 1e-4 <= self.repetition_penalty < float("inf"), "0.0001 or more"),
            ("presence_penalty", -2 <= self.presence_penalty <= 2, "between -2 and 2"),
            ("frequency_penalty", -2 <= self.frequency_penalty <= 2, "between -2 and 2"),
            ("logit_bias", all(-100 <= b <= 100 for b in self.logit_bias.values()), "numbers between -100 and 100"),
            ("stop", all(isinstance(text, str) and text for text in self.stop), "strings that are not empty"),
            ("seed", self.seed is None or isinstance(self.seed, int), "a whole number"),
            (
                "logprobs",
                self.logprobs is None or (whole and 0 <= self.logprobs <= MAX_ALTERNATIVES),
                f"a whole number up to {MAX_ALTERNATIVES}",
            ),
            ("n", self.n >= 1, "at least 1"),
            ("regex", self.regex is None or self.json_schema is None, "left out beside json_schema"),
            (
                "ignore_eos",
                not self.ignore_eos or (self.regex is None and self.json_schema is None),
                "left out where json_schema or regex says where a text ends",
            ),
        )
        for name, holds, wanted in limits:
            if not holds:
                raise RequestError(f"{name} is {getattr(self, name)!r}.", hint=f"It must be {wanted}.")


@dataclass(frozen=True)
class TokenLogprob:
    """Natural logarithms of probabilities at one position, before temperature, penalties and filters.

    ``alternatives`` are the likeliest tokens with theirs, likeliest first.
    """

    token_id: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Timing:
    """Seconds: waited for an adapter and a row, until the first token, and in all."""

    queued: float
    first_token: float
    total: float


@dataclass(frozen=True)
class Completion:
    """What one row generated.

    ``token_ids`` are the new tokens, without the one that ended the text. ``merged_tokens`` of them came of merged
    weights, the others of factors beside the base; None where that is not known.
    """

    text: str
    adapter: str | None
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] | None = None
    timing: Timing | None = field(default=None, compare=False)
    merged_tokens: int | None = field(default=None, compare=False)

    @property
    def completion_tokens(self) -> int:
        """Number of generated tokens."""
        return len(self.token_ids)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "completion_tokens": self.completion_tokens}
