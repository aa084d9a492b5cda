"""What the answers of chats and of plain completions have in common."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from ..engine import Completion, Piece
from .responses import Incomplete, Usage
from .running import Run


@dataclass
class Answer:
    """One answer: its name and time, and what is counted for it.

    Args:
        run: what it is made of.
        prefix: of its name.
    """

    run: Run
    prefix: str
    created: int = field(default_factory=lambda: int(time.time()))
    completion_tokens: int = 0

    def __post_init__(self) -> None:
        self.id = f"{self.prefix}-{uuid.uuid4().hex}"
        self.tokenizer = self.run.generations[0].row.voice.tokenizer
        self.has_logprobs = "logprobs" in self.run.job.sampling

    @property
    def head(self) -> dict[str, Any]:
        """The fields that every answer, and every chunk of a stream, begins with."""
        return {"id": self.id, "created": self.created, "model": self.run.job.model}

    def usage(self) -> Usage:
        """What was used by the completions that were counted."""
        asked = self.run.job.prompt_tokens
        return Usage(
            prompt_tokens=asked,
            completion_tokens=self.completion_tokens,
            total_tokens=asked + self.completion_tokens,
        )

    def count(self, completion: Completion) -> None:
        """Count what one completion used."""
        self.completion_tokens += completion.completion_tokens

    async def events(self) -> AsyncIterator[tuple[int, Piece | Completion]]:
        """Those of the run; completions are counted."""
        async for index, what in self.run.events():
            if isinstance(what, Completion):
                self.count(what)
            yield index, what


def ending(completion: Completion) -> dict[str, Any]:
    """Why a text ends, as fields of its choice.

    ``finish_reason`` has words that OpenAI's clients know, of which many take no other: what the server cut is
    ``length`` there, and ``incomplete_details``, null for all else, says that it was not the request's own limit.
    """
    reason = completion.finish_reason
    if reason == "stop" or reason == "length":  # as a type checker can follow it
        return {"finish_reason": reason, "incomplete_details": None}
    return {"finish_reason": "length", "incomplete_details": Incomplete(reason=reason).model_dump()}
