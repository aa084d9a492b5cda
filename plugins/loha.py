"""Variant: LoHa (Hyeon-Woo et al. 2021, arXiv 2108.06098, proposition 1; as in LyCORIS, arXiv 2309.14859).

    y = W x + s ((w1_a w1_b) * (w2_a w2_b)) x,    s = alpha / r

The Hadamard product of two matrices of rank r has rank r^2. Written as one low-rank pair it would take r / 2 times the
memory of the file, so the four factors stay apart.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F

from adapter_hub.hookspecs import Variant, hookimpl
from adapter_hub.updates import SiteUpdate
from adapter_hub.updates.site import is_zero

from .compact_change import CompactChange
from .lycoris_scale import SETTINGS, LycorisScale, scale_refusals
from .peft_variant import Lowering, ModuleTensors, PeftVariant

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel


@dataclass(frozen=True, eq=False, kw_only=True)
class HadamardChange(CompactChange):
    """F = (w1_a w1_b) * (w2_a w2_b), elementwise.

    Args:
        w1_a: [out, r], any constant scale folded in.
        w1_b: [r, in]
        w2_a: [out, r]
        w2_b: [r, in]
    """

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor

    def product(self, x: Tensor) -> Tensor:
        """See ``CompactChange``: y_o = sum over i, j of w1_a[o, i] w2_a[o, j] (w2_b (w1_b[i] * x))_j."""
        w1_a, w1_b, w2_a, w2_b = (w.to(x.dtype) for w in (self.w1_a, self.w1_b, self.w2_a, self.w2_b))
        if x.shape[:-1].numel() * len(w1_b) > len(w1_a):
            # For this many tokens F itself is smaller than what the other way keeps in between.
            return F.linear(x, (w1_a @ w1_b) * (w2_a @ w2_b))
        inner = (x.unsqueeze(-2) * w1_b) @ w2_b.T
        return ((w1_a @ inner) * w2_a).sum(-1)

    def pair(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """See ``Factored``: every column of the one pair times every column of the other, of rank r^2."""
        outputs, inputs = weight.shape
        if self.w1_a.shape[1] * self.w2_a.shape[1] >= min(outputs, inputs):
            return None
        B = self.w1_a.float().unsqueeze(2) * self.w2_a.float().unsqueeze(1)
        A = self.w1_b.float().unsqueeze(1) * self.w2_b.float().unsqueeze(0)
        return A.reshape(-1, inputs), B.reshape(outputs, -1)

    def is_zero(self) -> bool:
        """Whether a factor is zero."""
        return any(map(is_zero, (self.w2_b, self.w1_a, self.w1_b, self.w2_a)))


class Loha(PeftVariant):
    """Two low-rank pairs at each linear."""

    name = "loha"
    peft_type = "LOHA"
    marks = (".hada_w1_a",)
    known = SETTINGS
    scale_rule = "alpha / rank"

    def rank(self, tensor: Tensor) -> int:
        """r, of which the change has the square."""
        return tensor.shape[1] if tensor.dim() == 2 else 0

    def refusals(self, config: Mapping[str, Any]) -> list[str]:
        """What the scale needs."""
        return scale_refusals(config) + super().refusals(config)

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        return _Pairs(LycorisScale(config))


class _Pairs(Lowering):
    def __init__(self, scale: LycorisScale) -> None:
        self._scale = scale

    def update(self, module: ModuleTensors) -> SiteUpdate:
        inputs, outputs = module.site.in_features, module.site.out_features
        w1_a = module.take(".hada_w1_a", outputs, None)
        rank = w1_a.shape[1]
        return HadamardChange(
            w1_a=w1_a.float() * self._scale.at(module.path, rank),
            w1_b=module.take(".hada_w1_b", rank, inputs),
            w2_a=module.take(".hada_w2_a", outputs, rank),
            w2_b=module.take(".hada_w2_b", rank, inputs),
        )


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Loha()]
