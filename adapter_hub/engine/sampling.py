"""How tokens are chosen, and what a finished generation is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import RequestError


@dataclass(frozen=True)
class Sampling:
    """Choices of one call.

    Args:
        max_new_tokens: tokens to generate at most.
        temperature: 0 takes the likeliest token each time (greedy, deterministic).
        top_p: sample among the likeliest tokens that hold this much probability.
        top_k: sample among this many likeliest tokens; 0 is all.
        repetition_penalty: above 1 makes tokens that occurred less likely.
        stop: strings that end the text; they are not part of it.

    Raises:
        RequestError: a value is out of its range; the message names it.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        limits = (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k >= 0, "0 or more"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("stop", all(isinstance(text, str) and text for text in self.stop), "strings that are not empty"),
        )
        for name, holds, wanted in limits:
            if not holds:
                raise RequestError(f"{name} is {getattr(self, name)!r}.", hint=f"It must be {wanted}.")


@dataclass(frozen=True)
class Completion:
    """What one row generated. ``token_ids`` are the new tokens, without the one that ended the text."""

    text: str
    adapter: str | None
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: Literal["stop", "length"]

    @property
    def completion_tokens(self) -> int:
        """Number of generated tokens."""
        return len(self.token_ids)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "completion_tokens": self.completion_tokens}
