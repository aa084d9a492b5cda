"""Which words differ between a text and others."""

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


def word_differences(base: str, others: Sequence[str]) -> tuple[list[Piece], list[list[Piece]]]:
    """The base's text and the others as pieces; joined, they are the texts again, character for character.

    Of the others, those words are the same that the base has there too. Of the base, those that any other kept.
    """
    a = _TOKEN.findall(base)
    kept_by_any = [False] * len(a)
    found = []
    for other in others:
        b = _TOKEN.findall(other)
        kept_a, kept_b = _kept(a, b)
        kept_by_any = [one or two for one, two in zip(kept_by_any, kept_a, strict=True)]
        found.append(_runs(b, kept_b))
    return _runs(a, kept_by_any), found


def _kept(a: Sequence[str], b: Sequence[str]) -> tuple[list[bool], list[bool]]:
    kept_a, kept_b = [False] * len(a), [False] * len(b)
    for block in difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
        words = a[block.a : block.a + block.size]
        # White space or punctuation alone is no likeness: two texts share it wherever words stand.
        if any(word[0].isalnum() for word in words):
            kept_a[block.a : block.a + block.size] = [True] * block.size
            kept_b[block.b : block.b + block.size] = [True] * block.size
    return kept_a, kept_b


def _runs(words: Sequence[str], kept: Sequence[bool]) -> list[Piece]:
    runs: list[Piece] = []
    for word, same in zip(words, kept, strict=True):
        if runs and runs[-1].same == same:
            runs[-1] = Piece(runs[-1].text + word, same)
        else:
            runs.append(Piece(word, same))
    return runs
