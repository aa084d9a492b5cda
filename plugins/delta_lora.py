"""Variant: Delta-LoRA (Zi et al. 2023, arXiv 2309.02411, equation 8).

    y = (W + dW) x + s B A x,    dW = lambda s (B_T A_T - B_K A_K)

Training moves W itself by lambda times the change of s B A from one step to the next, from step K on. What that adds
up to over T steps telescopes, so the file may keep it as a pair of rank 2 r; or dense, where W moved otherwise.
The paper names no file; docs/adapter-format.md does.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import UnsupportedFeature
from adapter_hub.hookspecs import Lowered, Summary, Variant, hookimpl
from adapter_hub.updates import LinearUpdate, SiteUpdate

from .lora import Lora, lower_pairs
from .native_folder import unknown_fields
from .peft_settings import is_number
from .weight_changes import take_changes

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

NAME = "delta_lora"
KNOWN = frozenset("r lora_alpha".split())


class DeltaLora:
    """Low-rank pairs, and what their training did to the weights beside them."""

    name = NAME

    def matches(self, config: Mapping[str, Any]) -> bool:
        """This project's own format with ``variant: delta_lora``."""
        return config.get("variant") == NAME

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """Rank and scale of the pairs."""
        refused = _refusals(config)
        sites = {} if refused else Lora().describe(tensors, _pair_config(config)).sites
        return Summary(sites, "alpha / rank", tuple(refused))

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """LoRA's update with the change of W beside it, in ``D`` or as further ranks of ``A`` and ``B``."""
        refused = _refusals(config)
        if refused:
            raise UnsupportedFeature(refused[0])
        updates = lower_pairs(tensors, _pair_config(config), base)
        for path, change in take_changes(tensors, base).items():
            if path in updates:
                for part in (updates[path], change):
                    part.check(base.site(path))
                change = _joined(path, updates[path], change)
            updates[path] = change
        return Lowered(updates)


def _joined(path: str, pair: SiteUpdate, change: SiteUpdate) -> SiteUpdate:
    if not isinstance(pair, LinearUpdate) or not isinstance(change, LinearUpdate):
        raise UnsupportedFeature(f"{path} has both a low-rank pair and a changed weight, and is no linear.")
    if change.A is None or change.B is None or pair.A is None or pair.B is None:
        return replace(pair, D=change.D, signs=change.signs, sign_scale=change.sign_scale)
    middle = None
    if pair.mid_scale is not None:
        middle = torch.cat([pair.mid_scale, torch.ones(len(change.A))])
    A, B = _cat([pair.A, change.A], 0), _cat([pair.B, change.B], 1)
    return replace(pair, A=A, B=B, mid_scale=middle)


def _cat(tensors: list[Tensor], dim: int) -> Tensor:
    wider = torch.promote_types(tensors[0].dtype, tensors[1].dtype)
    return torch.cat([tensor.to(wider) for tensor in tensors], dim)


def _pair_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"lora_alpha": config["lora_alpha"]}


def _refusals(config: Mapping[str, Any]) -> list[str]:
    found = unknown_fields(config, KNOWN)
    if not is_number(config.get("lora_alpha")):
        found.append("the config has no number for lora_alpha, so the scale of the update is not known.")
    return found


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [DeltaLora()]
