"""Variant: single rows of an embedding table, trained and stored whole (PEFT's trainable tokens).

Also read by other variants of this package, whose adapters may carry such rows beside their own tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Lowered, SiteSummary, Summary, Variant, hookimpl
from adapter_hub.updates import EmbeddingUpdate, LinearUpdate, SiteUpdate

from .peft_settings import is_whole, unknown_settings

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

SUFFIX = ".trainable_tokens_delta"
BESIDE = ".token_adapter" + SUFFIX
MAX_GROWTH = 2
KNOWN = frozenset({"token_indices"})


def take_rows(
    tensors: MutableMapping[str, Tensor],
    indices: object,
    base: BaseModel,
) -> dict[str, SiteUpdate]:
    """Take the trained rows of every table out of ``tensors``.

    The rows are absolute: they stand in place of the base's, whatever their name says. Where the output head
    shares the table, it shares the rows, whether the file repeats them or not.
    """
    updates: dict[str, SiteUpdate] = {}
    taken: dict[str, str] = {}
    for name in [name for name in tensors if name.endswith(SUFFIX)]:
        path = name.removesuffix(BESIDE) if name.endswith(BESIDE) else name.removesuffix(SUFFIX)
        if path in taken:
            raise CorruptFile(f"tensors {taken[path]} and {name} are both rows of {path}.", hint="Save one of them.")
        taken[path] = name
        site, rows = base.site(path), tensors.pop(name)
        if site.kind == "other":
            raise UnsupportedFeature(f"tensor {name} holds rows of {path}, which has no table in this base.")
        ids = _indices_of(path, indices, site.in_features if site.kind == "embedding" else site.out_features)
        if rows.dim() != 2 or len(ids) != rows.shape[0] or len(set(ids)) != len(ids):
            raise ShapeMismatch(
                f"tensor {name} is {list(rows.shape)}, for the {len(set(ids))} token indices of the config.",
                hint="The config's token indices belong to another file.",
            )
        if not ids:
            continue
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


def _indices_of(path: str, indices: object, vocabulary: int) -> list[int]:
    """The tokens that a table's rows belong to.

    They may lie beyond its vocabulary, but each makes the logits of every token wider: a wild one would take
    all memory there is.
    """
    if isinstance(indices, Mapping):
        indices = next((ids for name, ids in indices.items() if path == name or path.endswith(f".{name}")), None)
    if indices is None:
        raise UnsupportedFeature(
            f"the config does not say which tokens the rows of {path} belong to.",
            hint="It needs token indices (trainable_token_indices, or token_indices) for this module.",
        )
    limit = MAX_GROWTH * vocabulary
    if not isinstance(indices, list) or not all(is_whole(index) and 0 <= index < limit for index in indices):
        raise UnsupportedFeature(
            f"the config's token indices for {path} are not a list of whole numbers from 0 to {limit - 1}.",
            hint="Tokens can be added, up to as many as the base has.",
        )
    return indices


class TrainableTokens:
    """Nothing but trained rows."""

    name = "trainable-tokens"

    def matches(self, config: Mapping[str, Any]) -> bool:
        """PEFT's TRAINABLE_TOKENS."""
        return config.get("peft_type") == "TRAINABLE_TOKENS"

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """The tables and how many of their rows are trained; such rows have no rank."""
        tables = [name.removesuffix(SUFFIX) for name in tensors if name.endswith(SUFFIX)]
        refused = tuple(unknown_settings(config, KNOWN))
        return Summary({path: SiteSummary(rank=0) for path in tables}, "none: rows are stored whole", refused)

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """Rows in place of the base's."""
        for sentence in unknown_settings(config, KNOWN):
            raise UnsupportedFeature(sentence)
        return Lowered(take_rows(tensors, config.get("token_indices"), base))


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [TrainableTokens()]
