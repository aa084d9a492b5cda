"""A task that a demo adapter learns: where its examples come from and when an answer counts as right."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Split = Literal["train", "held_out"]

_FENCE = re.compile(r"^```\w*\s*\n(.*?)\n?```$", re.DOTALL)
_DRAWS_PER_EXAMPLE = 50


@dataclass(frozen=True)
class Example:
    """What the user writes, and the one answer that is right."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Task:
    """One task of the demo.

    ``draw(rng, split)`` makes one example; the two splits must draw from material that they do not share, and
    ``held_out`` says in a sentence which material that is. ``score(answer, output)`` is the main measure, an
    exact match; ``further_scores`` holds others, by name, that may look at the prompt as well.
    """

    name: str
    title: str
    description: str
    held_out: str
    max_new_tokens: int
    draw: Callable[[random.Random, Split], Example]
    score: Callable[[str, str], bool]
    further_scores: Mapping[str, Callable[[Example, str], bool]] = field(default_factory=dict)

    def examples(self, split: Split, count: int, seed: int) -> list[Example]:
        """``count`` different examples of a split; the same arguments always give the same list.

        Raises:
            ValueError: the split has too few different prompts.
        """
        rng = random.Random(f"{self.name}/{split}/{seed}")
        by_prompt: dict[str, Example] = {}
        for _ in range(count * _DRAWS_PER_EXAMPLE):
            if len(by_prompt) == count:
                break
            example = self.draw(rng, split)
            by_prompt.setdefault(example.prompt, example)
        if len(by_prompt) < count:
            raise ValueError(f"task {self.name!r} has only {len(by_prompt)} different {split} prompts, not {count}")
        return list(by_prompt.values())


def unfenced(output: str) -> str:
    """``output`` without the Markdown code fence that chat models like to put around code."""
    text = output.strip()
    fenced = _FENCE.match(text)
    return fenced.group(1).strip() if fenced else text
