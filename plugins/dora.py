"""Variant: DoRA (Liu et al. 2024, arXiv 2402.09353, equation 5).

    W' = m * (W + s B A) / ||W + s B A||,    norms over each output row

At inference the factor c = m / ||W + s B A|| is a constant of the adapter and its base, so it is taken once, at
load, and an adapter costs what LoRA costs: ``y = c * (W x + s B A x) + b0``.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Lowered, Summary, Variant, hookimpl
from adapter_hub.updates import EmbeddingUpdate, ExpertsUpdate, LinearUpdate, SiteUpdate

from .lora import Lora, lower_pairs

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

MAGNITUDE = ".lora_magnitude_vector"
FORMS = (MAGNITUDE, MAGNITUDE + ".weight")


class Dora:
    """Low-rank pairs with a magnitude for each output of a linear, or for each column of an embedding."""

    name = "dora"

    def matches(self, config: Mapping[str, Any]) -> bool:
        """PEFT's LORA with weight decomposition."""
        return config.get("peft_type") == "LORA" and bool(config.get("use_dora"))

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """As LoRA; the magnitudes have no scale of their own."""
        return Lora().describe(tensors, config)

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """LoRA's update with ``out_scale`` = ``branch_scale`` = c, and the base's bias put back to its size."""
        magnitudes = _take_magnitudes(tensors)
        updates = lower_pairs(tensors, config, base)
        experts = next((path for path, update in updates.items() if isinstance(update, ExpertsUpdate)), None)
        if experts is not None:
            raise UnsupportedFeature(f"{experts}: weight decomposition of experts is not served; PEFT trains none.")
        pairs = {path for path, update in updates.items() if getattr(update, "A", None) is not None}
        for path in pairs ^ magnitudes.keys():
            missing = "low-rank pair" if path in magnitudes else "magnitude"
            raise CorruptFile(f"{path} has no {missing} among its tensors.", hint="The file is incomplete.")
        for path, magnitude in magnitudes.items():
            updates[path] = _scaled(path, updates[path], magnitude, base)
        return Lowered(updates)


def _take_magnitudes(tensors: MutableMapping[str, Tensor]) -> dict[str, Tensor]:
    magnitudes: dict[str, Tensor] = {}
    for form in FORMS:
        for name in [name for name in tensors if name.endswith(form)]:
            path = name.removesuffix(form)
            if path in magnitudes:
                raise CorruptFile(f"tensor {path}{MAGNITUDE} is given twice.", hint="Save the adapter again.")
            magnitudes[path] = tensors.pop(name)
    return magnitudes


def _scaled(path: str, update: SiteUpdate, magnitude: Tensor, base: BaseModel) -> SiteUpdate:
    update.check(base.site(path))
    magnitude = magnitude.float()
    outputs = base.site(path).out_features
    if magnitude.shape != (outputs,):
        raise ShapeMismatch(
            f"tensor {path}{MAGNITUDE} is {list(magnitude.shape)}, the base asks for [{outputs}].",
            hint="The adapter was trained on a model of another shape.",
        )
    if isinstance(update, EmbeddingUpdate):
        return _scaled_table(path, update, magnitude, base)
    assert isinstance(update, LinearUpdate)
    # The norm is that of the weight which is served: of the dequantised one on a 4-bit base.
    weight = base.dense_weight(path).cpu() + _product(update)
    factor = magnitude / torch.linalg.vector_norm(weight, dim=1)
    parts = [] if update.bias is None else [factor * update.bias]
    if "bias" in base.site(path).parameters:
        parts.append((1 - factor) * base.parameter(path, "bias").float().cpu())
    bias = torch.stack(parts).sum(0) if parts else None
    return replace(update, out_scale=factor, branch_scale=factor, bias=bias)


def _scaled_table(path: str, update: EmbeddingUpdate, magnitude: Tensor, base: BaseModel) -> EmbeddingUpdate:
    """For a table [vocab, dim] the norms are those of its columns, over the whole vocabulary."""
    assert update.A is not None
    assert update.B is not None
    table = base.parameter(path, "weight").float().cpu() + update.A.float().T @ update.B.float().T
    return replace(update, out_scale=magnitude / torch.linalg.vector_norm(table, dim=0))


def _product(update: LinearUpdate) -> Tensor:
    assert update.A is not None
    assert update.B is not None
    A = update.A.float() if update.mid_scale is None else update.mid_scale.unsqueeze(1) * update.A.float()
    return update.B.float() @ A


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Dora()]
