"""What the pages and the steps of continuous batching may take, and what goes in and comes out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..base import BaseModel
from ..config import Settings

KEYED_TOKENS = 8  # tokens at the head of a prompt that a prefix's key is mixed into: 248 bits of it
PageKey = tuple[int, ...]


@dataclass(frozen=True)
class Budgets:
    """What the pages and the steps may take.

    Args:
        max_rows: sequences in one step.
        max_tokens: tokens in one step.
        cache_bytes: keys and values of all sequences.
        page_tokens: tokens that share a page, and that a shared prefix is counted in.
    """

    max_rows: int
    max_tokens: int
    cache_bytes: int
    page_tokens: int


@dataclass(frozen=True)
class PagedSequence:
    """One sequence to run.

    Args:
        id: its name.
        ids: what it has so far.
        slot: of its adapter.
        active_from: the token from which on the adapter acts; those before are the base's.
        key: what prefixes are shared under; equal ones alone share pages.
        max_new_tokens: tokens until it ends.
        stop_ids: tokens that end it.
    """

    id: str
    ids: Sequence[int]
    slot: int
    key: PageKey
    max_new_tokens: int
    stop_ids: frozenset[int]
    active_from: int = 0


@dataclass(frozen=True)
class NewToken:
    """What a step gave one sequence.

    ``is_last``: it has ended, by this token or by its number. ``is_merged``: the step ran merged weights.
    """

    id: str
    token: int
    is_last: bool
    is_merged: bool = False


def default_budgets(base: BaseModel, settings: Settings) -> Budgets:
    """The settings' budgets, with what they leave open decided by the device."""
    is_cuda = base.device.type == "cuda"
    rows = settings.max_rows or (128 if is_cuda else 32)
    cache_bytes = settings.cache_bytes or (int(0.7 * torch.cuda.mem_get_info(base.device)[0]) if is_cuda else 1024**3)
    return Budgets(
        max_rows=rows,
        max_tokens=max(rows, settings.max_batch_tokens or (4096 if is_cuda else 512)),
        cache_bytes=cache_bytes,
        page_tokens=32,
    )
