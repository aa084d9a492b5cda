"""Variant: single rows of an embedding table, trained and stored whole (PEFT's trainable tokens).

Also read by other variants of this package, whose adapters may carry such rows beside their own tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Lowered, SiteSummary, Summary, Variant, hookimpl
from adapter_hub.updates import EmbeddingUpdate, LinearUpdate, SiteUpdate

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

SUFFIX = ".trainable_tokens_delta"
BESIDE = ".token_adapter" + SUFFIX


def take_rows(
    tensors: MutableMapping[str, Tensor],
    indices: Sequence[int] | Mapping[str, Sequence[int]] | None,
    base: BaseModel,
) -> dict[str, SiteUpdate]:
    """Take the trained rows of every table out of ``tensors``.

    The rows are absolute: they stand in place of the base's, whatever their name says. Where the output head
    shares the table, it shares the rows, whether the file repeats them or not.
    """
    updates: dict[str, SiteUpdate] = {}
    for name in [name for name in tensors if name.endswith(SUFFIX)]:
        path = name.removesuffix(BESIDE).removesuffix(SUFFIX)
        site, rows = base.site(path), tensors.pop(name)
        ids = _indices_of(path, indices)
        if len(ids) != rows.shape[0] or len(set(ids)) != len(ids) or min(ids, default=0) < 0:
            raise ShapeMismatch(
                f"tensor {name} has {rows.shape[0]} rows for the {len(set(ids))} token indices of the config.",
                hint="The config's token indices belong to another file.",
            )
        order = sorted(range(len(ids)), key=ids.__getitem__)
        row_ids = torch.tensor([ids[k] for k in order], dtype=torch.int64)
        rows = rows[order]
        if site.kind != "embedding":
            updates[path] = LinearUpdate(row_ids=row_ids, rows=rows)
            continue
        updates[path] = EmbeddingUpdate(row_ids=row_ids, rows=rows, base_vocabulary=site.in_features)
        head = base.head_tied_to(path)
        if head is not None:
            updates.setdefault(head, LinearUpdate(row_ids=row_ids, rows=rows))
    return updates


def _indices_of(path: str, indices: Sequence[int] | Mapping[str, Sequence[int]] | None) -> list[int]:
    if isinstance(indices, Mapping):
        for name, listed in indices.items():
            if path == name or path.endswith(f".{name}"):
                return [int(index) for index in listed]
    elif indices is not None:
        return [int(index) for index in indices]
    raise UnsupportedFeature(
        f"the config does not say which tokens the rows of {path} belong to.",
        hint="It needs token indices (trainable_token_indices, or token_indices) for this module.",
    )


class TrainableTokens:
    """Nothing but trained rows."""

    name = "trainable-tokens"

    def matches(self, config: Mapping[str, Any]) -> bool:
        """PEFT's TRAINABLE_TOKENS."""
        return config.get("peft_type") == "TRAINABLE_TOKENS"

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """The tables and how many of their rows are trained; such rows have no rank."""
        tables = [name.removesuffix(SUFFIX) for name in tensors if name.endswith(SUFFIX)]
        return Summary({path: SiteSummary(rank=0) for path in tables}, "none: rows are stored whole")

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """Rows in place of the base's."""
        return Lowered(take_rows(tensors, config.get("token_indices"), base))


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [TrainableTokens()]
