"""Tokenised examples in small batches of like length."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..tasks import Example
from .base_model import BaseModel

# The window in which examples are sorted by length, in batches: long enough for little padding, short enough
# that every stretch of training sees short and long examples.
_BUCKET_BATCHES = 16


@dataclass(frozen=True)
class Batch:
    """Token ids ``[rows, length]``, padded on the right, and which of them the loss is taken on."""

    input_ids: torch.Tensor
    is_answer: torch.Tensor


@dataclass(frozen=True)
class _Encoded:
    ids: list[int]
    num_prompt: int


def make_batches(base: BaseModel, examples: Sequence[Example], batch_size: int, seed: int) -> list[Batch]:
    """Batches of ``batch_size``, each of like lengths, in an order given by ``seed``."""
    encoded = [_encode(base, example) for example in examples]
    rng = random.Random(seed)
    batches: list[Batch] = []
    window = batch_size * _BUCKET_BATCHES
    for start in range(0, len(encoded), window):
        bucket = sorted(encoded[start : start + window], key=lambda one: len(one.ids))
        rows = [bucket[first : first + batch_size] for first in range(0, len(bucket), batch_size)]
        rng.shuffle(rows)
        batches.extend(_pad(some, base.tokenizer.pad_token_id) for some in rows)
    return batches


def _encode(base: BaseModel, example: Example) -> _Encoded:
    prompt = base.prompt_ids(example.prompt)
    answer = base.tokenizer(example.answer, add_special_tokens=False)["input_ids"]
    return _Encoded([*prompt, *answer, base.tokenizer.eos_token_id], len(prompt))


def _pad(rows: Sequence[_Encoded], pad_token_id: int) -> Batch:
    length = max(len(row.ids) for row in rows)
    input_ids = torch.full((len(rows), length), pad_token_id)
    is_answer = torch.zeros((len(rows), length), dtype=torch.bool)
    for index, row in enumerate(rows):
        input_ids[index, : len(row.ids)] = torch.tensor(row.ids)
        is_answer[index, row.num_prompt : len(row.ids)] = True
    return Batch(input_ids, is_answer)
