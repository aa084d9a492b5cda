"""Variant: RoAd (Liao and Monz 2024, arXiv 2409.00119, equation 4).

    y_1 = a cos(t) * h_1 - a sin(t) * h_2,    y_2 = a cos(t) * h_2 + a sin(t) * h_1,    h = W x + b0

Outputs are turned two by two and scaled: those of a group's first half with those of its second. Angles t and scales a
are one a pair (road_1), one an output (road_2), or two an output, for its own part and its partner's (road_4).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapter_hub.errors import ShapeMismatch
from adapter_hub.hookspecs import Variant, hookimpl
from adapter_hub.updates import SiteUpdate
from adapter_hub.updates.site import SiteShape, TensorFields, is_zero

from .peft_settings import is_whole
from .peft_variant import Lowering, ModuleTensors, PeftVariant

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

ANGLES, SCALES = ".road_theta", ".road_alpha"
# By variant: values a pair of outputs.
VARIANTS = {"road_1": 1, "road_2": 2, "road_4": 4}


@dataclass(frozen=True, eq=False, kw_only=True)
class PairRotation(TensorFields):
    """y = h + along * h + across * (-h2, h1), for h = base(x) in groups of halves (h1, h2).

    Args:
        along: [groups, 2, k] for out = groups 2 k, less one; or [groups, 1, k], the same for both halves.
        across: alike.
    """

    along: Tensor
    across: Tensor

    def check(self, site: SiteShape) -> None:
        """The parts were held when they were made."""

    def changes_nothing(self) -> bool:
        """Whether no angle turns and no scale scales."""
        return is_zero(self.along) and is_zero(self.across)

    def base_input(self, x: Tensor) -> Tensor:
        """``x``."""
        return x

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """The equation of the class, in float32. Shapes: ``base_output [..., out]``."""
        exact = torch.promote_types(base_output.dtype, torch.float32)
        h = base_output.to(exact).unflatten(-1, (len(self.along), 2, -1))
        crossed = torch.stack((-h[..., 1, :], h[..., 0, :]), dim=-2)
        y = h + h * self.along.to(exact) + crossed * self.across.to(exact)
        return y.flatten(-3).to(base_output.dtype)


class Road(PeftVariant):
    """Turns and scales of pairs of outputs."""

    name = "road"
    peft_type = "ROAD"
    marks = (ANGLES,)
    known = frozenset({"variant", "group_size"})
    scale_rule = "none: the scales are learned"

    def refusals(self, config: Mapping[str, Any]) -> list[str]:
        """Which outputs make a pair."""
        found = super().refusals(config)
        size, variant = config.get("group_size", 64), config.get("variant", "road_1")
        if not is_whole(size) or size < 2 or size % 2:
            found.append(f"the setting group_size={size!r} is no even number above 0.")
        if not isinstance(variant, str) or variant not in VARIANTS:
            found.append(f"the setting variant={variant!r} is none of {', '.join(VARIANTS)}.")
        return found

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        return _Pairs(VARIANTS[config.get("variant", "road_1")], config.get("group_size", 64))


class _Pairs(Lowering):
    def __init__(self, values: int, group: int) -> None:
        self._values = values
        self._group = group

    def update(self, module: ModuleTensors) -> SiteUpdate:
        outputs = module.site.out_features
        if outputs % self._group:
            raise ShapeMismatch(
                f"site {module.path}: its {outputs} outputs are no groups of the config's group_size={self._group}.",
                hint="The adapter was trained on a model of another shape.",
            )
        size = outputs // 2 * self._values
        angles, scales = module.take(ANGLES, size).float(), module.take(SCALES, size).float()
        along, across = scales * angles.cos(), scales * angles.sin()
        halves = (-1, self._values, self._group // 2)
        along, across = along.view(halves), across.view(halves)
        if self._values == 4:  # the first two halves of a group's values are for h itself, the others for its partner
            along, across = along[:, :2].contiguous(), across[:, 2:].contiguous()
        return PairRotation(along=along - 1, across=across)


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Road()]
