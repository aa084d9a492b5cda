"""The exact weighted sum of updates of an embedding table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import ShapeMismatch
from .dense import merged_table
from .embedding import EmbeddingUpdate
from .low_rank import factors
from .sums import SMALL, Frozen, mean_rows, own_table, total, total_weight, union

Tables = Sequence[tuple[float, EmbeddingUpdate]]


def sum_tables(path: str, parts: Tables, base: Frozen) -> EmbeddingUpdate:
    """``weighted_sum`` for updates that are all in the canonical form of an embedding.

    Raises:
        ShapeMismatch: the parts bring tables of different lengths.
    """
    known = base.site(path).in_features
    scales = [(w, u.out_scale.float()) for w, u in parts if u.out_scale is not None]
    scale = 1 + total((w, s - 1) for w, s in scales) if scales else None
    whole = any(u.table is not None for _, u in parts) or (scale is not None and bool((scale.abs() < SMALL).any()))
    fields: dict[str, Any] = {"base_vocabulary": known}
    if whole:
        fields["table"] = _whole_table(path, parts, base)
    else:
        fields |= _table_pairs(parts, scale)
    listed = [u.row_ids for _, u in parts if u.row_ids is not None]
    if listed:
        fields["row_ids"] = row_ids = union(listed)
        within = row_ids[row_ids < known]
        own = own_table(path, base)[within]
        rows = own + total((w, _rows_under(u, within, own, path) - own) for w, u in parts)
        beyond = mean_rows(path, row_ids[row_ids >= known], [(w, u.row_ids, u.rows) for w, u in parts])
        fields["rows"] = torch.cat([rows, beyond])
    return EmbeddingUpdate(**fields)


def _table_pairs(parts: Tables, scale: Tensor | None) -> dict[str, Tensor | None]:
    """Pairs side by side; where tables are scaled, B undoes the common scale and takes its own part's."""
    pairs = []
    for weight, update in parts:
        if update.A is not None:
            A, B = factors(update)
            own = torch.ones(len(B)) if update.out_scale is None else update.out_scale.float()
            pairs.append((A, B * weight if scale is None else B * (weight * own / scale).unsqueeze(1)))
    joined = {"A": torch.cat([A for A, _ in pairs]), "B": torch.cat([B for _, B in pairs], 1)} if pairs else {}
    return {**joined, "out_scale": scale}


def _whole_table(path: str, parts: Tables, base: Frozen) -> Tensor:
    own = own_table(path, base)
    tables = [(w, merged_table(replace(u, row_ids=None, rows=None), own, path=path)) for w, u in parts]
    sizes = {len(table) for _, table in tables}
    if len(sizes) > 1:
        raise ShapeMismatch(
            f"site {path}: the adapters give it {' and '.join(map(str, sorted(sizes)))} rows.",
            hint="Adapters that add tokens can be composed with others that add as many.",
        )
    known = len(own)
    summed = own + total((w, table[:known] - own) for w, table in tables)
    if sizes == {known}:
        return summed
    weight = total_weight(path, [w for w, _ in tables])
    return torch.cat([summed, total((w / weight, table[known:]) for w, table in tables)])


def _rows_under(update: EmbeddingUpdate, ids: Tensor, own: Tensor, path: str) -> Tensor:
    """Rows ``ids`` of the updated table, from the same rows of the base's."""
    table = None if update.table is None else update.table[ids]
    A = None if update.A is None else update.A[:, ids]
    found = merged_table(replace(update, table=table, A=A, row_ids=None, rows=None), own, path=path)
    if update.row_ids is None or update.rows is None:
        return found
    mine = torch.isin(update.row_ids, ids)
    return found.index_copy(0, torch.searchsorted(ids, update.row_ids[mine]), update.rows[mine].float())
