"""Variant: LoKr (Yeh et al. 2023, arXiv 2309.14859, section 3; Edalati et al. 2022, arXiv 2212.10650).

    y = W x + s (w1 kron w2) x,    s = alpha / r

Either factor may itself be a low-rank product. With x as a matrix X the Kronecker product is w1 X w2^T: two small
products, and nothing of the weight's size.
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
from .lycoris_scale import SETTINGS, LycorisScale, scale_refusals
from .peft_variant import Lowering, ModuleTensors, PeftVariant

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel


@dataclass(frozen=True, eq=False, kw_only=True)
class KroneckerChange(CompactChange):
    """F = w1 kron w2, where w1 = w1_a w1_b and w2 = w2_a w2_b if they have two parts.

    Args:
        w1_a: [a, c], or [a, r] beside ``w1_b``; any constant scale folded in. a b are the outputs, c d the inputs.
        w1_b: [r, c]
        w2_a: [b, d], or [b, r] beside ``w2_b``
        w2_b: [r, d]
    """

    w1_a: Tensor
    w2_a: Tensor
    w1_b: Tensor | None = None
    w2_b: Tensor | None = None

    def product(self, x: Tensor) -> Tensor:
        """See ``CompactChange``: Y [a, b] = w1 X w2^T for X [c, d]."""
        last = self.w2_a if self.w2_b is None else self.w2_b
        h = x.unflatten(-1, (-1, last.shape[1])) @ last.to(x.dtype).T
        if self.w2_b is not None:
            h = h @ self.w2_a.to(x.dtype).T
        if self.w1_b is not None:
            h = self.w1_b.to(x.dtype) @ h
        return (self.w1_a.to(x.dtype) @ h).flatten(-2)

    def pair(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """See ``Factored``: (L1 R1) kron (L2 R2) = (L1 kron L2) (R1 kron R2), of the product of both ranks."""
        (L1, R1), (L2, R2) = _halves(self.w1_a, self.w1_b), _halves(self.w2_a, self.w2_b)
        if len(R1) * len(R2) >= min(weight.shape):
            return None
        return torch.kron(R1, R2), torch.kron(L1, L2)

    def is_zero(self) -> bool:
        """Whether a factor is zero."""
        return any(part is not None and is_zero(part) for part in (self.w1_a, self.w1_b, self.w2_a, self.w2_b))


class Lokr(PeftVariant):
    """A Kronecker product at each linear, its factors whole or in two parts."""

    name = "lokr"
    peft_type = "LOKR"
    marks = (".lokr_w1", ".lokr_w1_a")
    known = SETTINGS | {"decompose_both", "decompose_factor", "rank_dropout_scale"}
    scale_rule = "alpha / rank"

    def refusals(self, config: Mapping[str, Any]) -> list[str]:
        """What the scale needs."""
        return scale_refusals(config) + super().refusals(config)

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        return _Products(LycorisScale(config))


class _Products(Lowering):
    def __init__(self, scale: LycorisScale) -> None:
        self._scale = scale

    def update(self, module: ModuleTensors) -> SiteUpdate:
        (w1_a, w1_b), (w2_a, w2_b) = _factor(module, ".lokr_w1"), _factor(module, ".lokr_w2")
        shapes = [(a.shape[0], (a if b is None else b).shape[1]) for a, b in ((w1_a, w1_b), (w2_a, w2_b))]
        (a, c), (b, d) = shapes
        if (a * b, c * d) != (module.site.out_features, module.site.in_features):
            raise ShapeMismatch(
                f"site {module.path}: lokr_w1 [{a}, {c}] and lokr_w2 [{b}, {d}] make a weight of [{a * b}, {c * d}], "
                f"the base asks for [{module.site.out_features}, {module.site.in_features}].",
                hint="The adapter was trained on a model of another shape.",
            )
        # The scale has r in it also where no factor has that rank; then the config alone knows it.
        rank = next((part.shape[0] for part in (w2_b, w1_b) if part is not None), None)
        return KroneckerChange(w1_a=w1_a.float() * self._scale.at(module.path, rank), w1_b=w1_b, w2_a=w2_a, w2_b=w2_b)


def _halves(first: Tensor, second: Tensor | None) -> tuple[Tensor, Tensor]:
    """A factor as a product; a whole one times the identity, on the side that makes the rank smaller."""
    if second is not None:
        return first.float(), second.float()
    rows, columns = first.shape
    whole, one = first.float(), torch.eye(min(rows, columns), device=first.device)
    return (one, whole) if rows < columns else (whole, one)


def _factor(module: ModuleTensors, name: str) -> tuple[Tensor, Tensor | None]:
    if module.has(name):
        return module.take(name, None, None), None
    first = module.take(f"{name}_a", None, None)
    return first, module.take(f"{name}_b", first.shape[1], None)


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Lokr()]
