"""Proof that a model can be batched continuously: it gives the logits that it gives outside of the pages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..base import BaseModel
from ..errors import CannotBatch, EngineStopped
from ..runtime import RowMap, in_force
from ..store import BASE_SLOT
from .budgets import PagedSequence
from .failures import is_fatal, is_memory
from .paged import PagedBatch

BARS = {torch.float32: 1e-3, torch.float64: 1e-6}  # relative error; 0.2 in 16 bit, where a wrong order gives about 1
PROMPTS = ((5, 7, 11, 13, 17), (3, 2, 6), (19, 4, 8, 9))


def prove(batch: PagedBatch, base: BaseModel) -> None:
    """Raise ``CannotBatch`` unless prompts read and continued together come out as each alone.

    A model may take what it is handed and not use it, one of a user's own code above all.
    """
    try:
        together = _run(batch)
    except Exception as failure:
        if is_fatal(failure) or is_memory(failure):
            raise EngineStopped(f"the engine could not start: {type(failure).__name__}: {failure}.") from failure
        raise CannotBatch(
            f"{type(base.model).__name__} cannot be batched continuously: {type(failure).__name__}: {failure}."
        ) from failure
    alone = []
    with torch.inference_mode(), in_force(RowMap(everywhere=BASE_SLOT)):
        for prompt, found in zip(PROMPTS, together, strict=True):
            ids = torch.tensor([[*prompt, int(found[0].argmax())]], device=base.device)
            alone.append(base.model(ids).logits[0, -2:].float())
    error = float((torch.stack(together) - torch.stack(alone)).norm() / torch.stack(alone).norm())
    if not error < BARS.get(base.model.dtype, 0.2):
        raise CannotBatch(
            f"{type(base.model).__name__} cannot be batched continuously: its logits differ by {error:.1%}."
        )


def _run(batch: PagedBatch) -> list[Tensor]:
    """The logits [2, vocabulary] after each prompt and after its first new token."""
    seen: dict[str, list[Tensor]] = {f"proof {k}": [] for k in range(len(PROMPTS))}

    def look(logits: Tensor, ids: Sequence[str]) -> Tensor:
        for id, row in zip(ids, logits, strict=True):
            seen[id].append(row.clone())
        return logits.argmax(-1)

    own, batch.choose = batch.choose, look
    try:
        for id, prompt in zip(seen, PROMPTS, strict=True):
            batch.add(PagedSequence(id, prompt, BASE_SLOT, (), 2, frozenset()))
        while batch.num_sequences:
            if not batch.step() and not batch.running:
                raise CannotBatch("its sequences find no pages.")
        return [torch.stack(rows) for rows in seen.values()]
    finally:
        batch.choose = own
        for id in seen:
            batch.drop(id)
        batch.forget()
