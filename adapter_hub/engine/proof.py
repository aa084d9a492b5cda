"""Proof that a model can be batched continuously: it gives the logits that it gives outside of the pages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..base import BaseModel
from ..errors import CannotBatch
from ..runtime import RowMap, in_force
from ..store import BASE_SLOT
from .budgets import PagedSequence
from .paged import PagedBatch

BARS = {torch.float32: 1e-3, torch.float64: 1e-6}  # relative error; 0.2 in 16 bit, where a wrong order gives about 1
PROMPTS = ((5, 7, 11, 13, 17), (3, 2, 6), (19, 4, 8, 9))


def prove(batch: PagedBatch, base: BaseModel) -> None:
    """Raise ``CannotBatch`` unless prompts read and continued together come out as each alone.

    A model may take what it is handed and not use it, one of a user's own code above all.
    """
    texts = [list(prompt) for prompt in PROMPTS]
    try:
        together = torch.cat(_run(batch, texts))
    except Exception as failure:
        raise CannotBatch(
            f"{type(base.model).__name__} cannot be batched continuously: {type(failure).__name__}: {failure}."
        ) from failure
    with torch.inference_mode(), in_force(RowMap(everywhere=BASE_SLOT)):
        # The logits after the prompt, and after the first new token.
        alone = [base.model(torch.tensor([ids[:-1]], device=base.device)).logits[0, -2:].float() for ids in texts]
    expected = torch.stack(alone).transpose(0, 1).flatten(0, 1)
    error = float((together - expected).norm() / expected.norm())
    if not error < BARS.get(base.model.dtype, 0.2):
        raise CannotBatch(
            f"{type(base.model).__name__} cannot be batched continuously: its logits differ by {error:.1%}."
        )


def _run(batch: PagedBatch, texts: Sequence[list[int]]) -> list[Tensor]:
    seen: list[Tensor] = []

    def look(logits: Tensor, _: Sequence[str]) -> Tensor:
        seen.append(logits.clone())
        return logits.argmax(-1)

    own, batch.choose = batch.choose, look
    try:
        for k, ids in enumerate(texts):
            batch.add(PagedSequence(f"proof {k}", ids, BASE_SLOT, (), 2, frozenset()))
        for _ in range(2):
            for ids, new in zip(texts, batch.step(), strict=True):
                ids.append(new.token)
        return seen
    finally:
        batch.choose = own
        for k in range(len(texts)):
            batch.drop(f"proof {k}")
        batch.forget()
