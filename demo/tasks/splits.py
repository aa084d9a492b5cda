"""Splits by a hash: for tasks whose material is a range of values that nobody wants to list."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

from .task import Split

_ONE_IN = 8

T = TypeVar("T")


def split_of(value: object) -> Split:
    """The split that a value belongs to: one value in eight is held out, the same ones in every process."""
    digest = hashlib.sha256(repr(value).encode()).digest()
    return "held_out" if digest[0] % _ONE_IN == 0 else "train"


def drawn_for(split: Split, draw: Callable[[], T], rule: Callable[[T], Split] = split_of) -> T:
    """The first value that ``draw`` gives and that belongs to the split by the rule."""
    while True:
        value = draw()
        if rule(value) == split:
            return value
