"""Which words differ between two texts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True)
class Piece:
    """A run of a text's words that the other text has too (``same``) or does not have there."""

    text: str
    same: bool


def word_differences(left: str, right: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts as pieces; joined, the pieces are the texts again, character for character."""
    a, b = _TOKEN.findall(left), _TOKEN.findall(right)
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    kept_a, kept_b = [False] * len(a), [False] * len(b)
    for block in matcher.get_matching_blocks():
        words = a[block.a : block.a + block.size]
        # White space or punctuation alone is no likeness: two texts share it wherever words stand.
        if any(word[0].isalnum() for word in words):
            kept_a[block.a : block.a + block.size] = [True] * block.size
            kept_b[block.b : block.b + block.size] = [True] * block.size
    return _runs(a, kept_a), _runs(b, kept_b)


def _runs(words: Sequence[str], kept: Sequence[bool]) -> list[Piece]:
    runs: list[Piece] = []
    for word, same in zip(words, kept, strict=True):
        if runs and runs[-1].same == same:
            runs[-1] = Piece(runs[-1].text + word, same)
        else:
            runs.append(Piece(word, same))
    return runs
