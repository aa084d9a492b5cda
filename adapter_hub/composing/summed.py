"""A weighted sum of adapters in host memory, for one request or many, with nothing kept on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..base import BaseModel
from ..errors import AdapterError
from ..hookspecs import Fetched
from ..loading import LoadedAdapter
from ..store.expression import gathered, sum_digest
from ..updates import SiteUpdate, weighted_sum
from .parents import Parent, common_voice, hold_one_vocabulary

SUM = "sum"


def summed(parents: Sequence[Parent], base: BaseModel) -> LoadedAdapter:
    """An adapter whose effect at every site is the exact weighted sum of its parents' effects.

    Its digest is made of theirs and of the weights, whatever their order; so are its numbers.

    Raises:
        UnsupportedFeature: the parents have no such sum; names adapters and site.
    """
    weights = gathered((parent.loaded.digest, parent.weight) for parent in parents)
    by_digest = {parent.loaded.digest: parent for parent in parents}
    chosen = [replace(by_digest[digest], weight=weight) for digest, weight in sorted(weights.items())]
    updates: dict[str, SiteUpdate] = {}
    # What comes to nothing has no say, unless everything does.
    speaking = chosen or list(parents)
    hold_one_vocabulary(speaking, base)
    tokenizer, chat_template, _ = common_voice(speaking, base)
    for path in sites_of(chosen):
        parts = [(one.weight, one.loaded.updates[path]) for one in chosen if path in one.loaded.updates]
        try:
            updates[path] = weighted_sum(path, parts, base)
        except AdapterError as error:
            raise type(error)(f"{names_of(chosen)}: {error.message}", hint=error.hint) from error
    shared = [tensor for one in chosen for tensor in one.loaded.shared]
    return composed_adapter(
        digest=sum_digest(weights.items()),
        updates=updates,
        shared=_still_used(shared, updates),
        base=base,
        tokenizer=tokenizer,
        chat_template=chat_template,
    )


def composed_adapter(
    *,
    digest: str,
    updates: Mapping[str, SiteUpdate],
    shared: tuple[Tensor, ...],
    base: BaseModel,
    tokenizer: Path | None,
    chat_template: str | None,
) -> LoadedAdapter:
    """An adapter that was made here and lies in no folder."""
    tensors = {tensor.data_ptr(): tensor for update in updates.values() for tensor in update.tensors().values()}
    ranks = {len(A) for update in updates.values() if (A := update.tensors().get("A")) is not None}
    return LoadedAdapter(
        digest=digest,
        fetched=Fetched(Path()),
        format="none",
        variant=SUM,
        updates=updates,
        shared=shared,
        ranks=tuple(sorted(ranks)),
        bytes=sum(tensor.nbytes for tensor in tensors.values()),
        base_name=base.name,
        warnings=(),
        tokenizer=tokenizer,
        chat_template=chat_template,
    )


def sites_of(parents: Sequence[Parent]) -> list[str]:
    """Every site that a parent changes, in the parents' order."""
    return list(dict.fromkeys(path for parent in parents for path in parent.loaded.updates))


def names_of(parents: Sequence[Parent]) -> str:
    """The parents by name, for an error."""
    return " and ".join(parent.name for parent in parents)


def _still_used(shared: Sequence[Tensor], updates: Mapping[str, SiteUpdate]) -> tuple[Tensor, ...]:
    """Those of the parents' shared tensors that the sum uses, whole or in part: only where one parent acts alone."""
    used = [tensor.data_ptr() for update in updates.values() for tensor in update.tensors().values()]
    return tuple(
        tensor
        for tensor in shared
        if any(tensor.data_ptr() <= start < tensor.data_ptr() + tensor.nbytes for start in used)
    )
