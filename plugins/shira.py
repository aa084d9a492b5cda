"""Variant: SHiRA (Bhardwaj et al. 2024, arXiv 2406.13175).

    y = W x + b0 + D x,    D sparse

A few entries of the weight are trained, chosen before training. The file has their values and places.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import ShapeMismatch
from adapter_hub.hookspecs import Variant, hookimpl
from adapter_hub.updates import SiteUpdate
from adapter_hub.updates.site import is_zero

from .compact_change import CompactChange
from .peft_variant import Lowering, ModuleTensors, PeftVariant

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

VALUES, PLACES = ".shira_weight", ".shira_indices"


@dataclass(frozen=True, eq=False, kw_only=True)
class SparseChange(CompactChange):
    """F with these values at these places, zero elsewhere.

    Args:
        values: [n]
        places: [2, n] int32, rows and columns, in the order of rows and then columns, each place once.
        num_outputs: rows of F.
    """

    values: Tensor
    places: Tensor
    num_outputs: int

    def product(self, x: Tensor) -> Tensor:
        """See ``CompactChange``."""
        size = (self.num_outputs, x.shape[-1])
        sparse = torch.sparse_coo_tensor(
            self.places.long(), self.values.to(x.dtype), size, is_coalesced=True, check_invariants=False
        )
        return torch.sparse.mm(sparse, x.reshape(-1, x.shape[-1]).T).T.reshape(*x.shape[:-1], self.num_outputs)

    def is_zero(self) -> bool:
        """Whether every value is zero."""
        return is_zero(self.values)


class Shira(PeftVariant):
    """Single entries of linears' weights."""

    name = "shira"
    peft_type = "SHIRA"
    marks = (VALUES,)
    # The places are in the file, whatever drew them.
    known = frozenset("mask_type r random_seed".split())
    scale_rule = "none"

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        return _Entries()


class _Entries(Lowering):
    def update(self, module: ModuleTensors) -> SiteUpdate:
        inputs, outputs = module.site.in_features, module.site.out_features
        values, places = module.take(VALUES, None), module.take_whole(PLACES)
        limits = torch.tensor([[outputs], [inputs]])
        if places.shape != (2, len(values)) or bool(((places < 0) | (places >= limits)).any()):
            raise ShapeMismatch(
                f"tensor {module.path}{PLACES} does not name {len(values)} places of a weight [{outputs}, {inputs}].",
                hint="The adapter was trained on a model of another shape.",
            )
        # In order, and values at one place as their sum, so that no product has to see to it.
        keys, place = (places[0] * inputs + places[1]).unique(return_inverse=True)
        return SparseChange(
            values=torch.zeros(len(keys)).index_add_(0, place, values.float()),
            places=torch.stack([keys // inputs, keys % inputs]).int(),
            num_outputs=outputs,
            bias=module.bias_change(),
        )


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Shira()]
