"""Orders of the rows of attention projections, which differ between tools for one and the same model.

A rotary embedding turns pairs of channels. transformers pairs channel i of a head with channel i + size / 2, so
that a head's rows come in two halves; llama.cpp and torchtune keep the two of a pair side by side. A fused
projection has its rows head by head in some models (q, k, v of the first head, then of the next) and part by part
(all q, all k, all v) in the files of some tools.

All functions take B or a magnitude, [out, ...] in one order, and give it in the other; A's rows are ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adapter_hub.errors import ShapeMismatch, UnsupportedFeature

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel


@dataclass(frozen=True)
class Heads:
    """How many attention heads a base has."""

    queries: int
    keys: int


def heads_of(base: BaseModel) -> Heads:
    """The heads of a base, by its configuration.

    Raises:
        UnsupportedFeature: the configuration does not say.
    """
    config = base.model.config
    queries = getattr(config, "num_attention_heads", None)
    keys = getattr(config, "num_key_value_heads", None) or queries
    if not isinstance(queries, int) or not isinstance(keys, int):
        raise UnsupportedFeature(
            f"the configuration of the base {base.name} has no num_attention_heads, by which rows are ordered.",
            hint="Save the adapter in PEFT's format for this base.",
        )
    return Heads(queries, keys)


def halves_from_pairs(rows: Tensor, heads: int, name: str) -> Tensor:
    """From pairs side by side to transformers' two halves of each head."""
    return _regroup(rows, (heads, -1, 2), name)


def pairs_from_halves(rows: Tensor, heads: int, name: str) -> Tensor:
    """The inverse of ``halves_from_pairs``."""
    return _regroup(rows, (heads, 2, -1), name)


def heads_from_parts(rows: Tensor, heads: int, name: str) -> Tensor:
    """From q, k and v one after the other to q, k and v of each head in turn."""
    return _regroup(rows, (1, 3, heads, -1), name)


def parts_from_heads(rows: Tensor, heads: int, name: str) -> Tensor:
    """The inverse of ``heads_from_parts``."""
    return _regroup(rows, (1, heads, 3, -1), name)


def parts_from_groups(rows: Tensor, heads: Heads, name: str) -> Tensor:
    """From groups of some heads of q, their k and their v, to q, k and v one after the other."""
    per_group = heads.queries // heads.keys
    if not rows.numel() or rows.shape[0] % (heads.keys * (per_group + 2)):
        raise ShapeMismatch(f"tensor {name} is {list(rows.shape)}, which {heads.keys} groups of heads do not share.")
    groups = rows.reshape(heads.keys, per_group + 2, -1, *rows.shape[1:])
    parts = (groups[:, :-2], groups[:, -2], groups[:, -1])
    return torch.cat([part.reshape(-1, *rows.shape[1:]) for part in parts])


def rows_of_parts(rows: int, heads: Heads) -> list[int]:
    """How many of a fused projection's rows are q's, k's and v's."""
    size = rows // (heads.queries + 2 * heads.keys)
    return [heads.queries * size, heads.keys * size, heads.keys * size]


def _regroup(rows: Tensor, groups: tuple[int, ...], name: str) -> Tensor:
    """Exchange the second and third of the groups that the rows fall into."""
    whole = 1
    for size in groups:
        whole *= max(size, 1)
    if not rows.dim() or not rows.numel() or rows.shape[0] % whole:
        raise ShapeMismatch(
            f"tensor {name} is {list(rows.shape)}, and its rows do not fall into {whole} groups.",
            hint="The adapter was trained on a model of another shape.",
        )
    return rows.reshape(*groups, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)
