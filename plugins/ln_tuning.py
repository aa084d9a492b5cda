"""Variant: LN tuning (Zhao et al. 2023, arXiv 2312.11420): the vectors of norms, trained and stored whole."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapter_hub.errors import CorruptFile, UnsupportedFeature
from adapter_hub.hookspecs import Lowered, SiteSummary, Summary, Variant, hookimpl

from .peft_settings import unknown_settings

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

INSIDE = ".ln_tuning_layers."
KNOWN: frozenset[str] = frozenset()


class LnTuning:
    """Whole parameters of norms, one level below the names that the base has for them."""

    name = "ln-tuning"

    def matches(self, config: Mapping[str, Any]) -> bool:
        """PEFT's LN_TUNING."""
        return config.get("peft_type") == "LN_TUNING"

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """The norms; vectors have no rank."""
        sites = {name.partition(INSIDE)[0]: SiteSummary(rank=0) for name in tensors if INSIDE in name}
        return Summary(sites, "none: vectors are stored whole", tuple(unknown_settings(config, KNOWN)))

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """No updates of its own: the tensors get the base's names, under which every type may keep parameters."""
        for sentence in unknown_settings(config, KNOWN):
            raise UnsupportedFeature(sentence)
        for name in [name for name in tensors if INSIDE in name]:
            path, _, parameter = name.partition(INSIDE)
            if base.site(path).kind != "other":
                raise UnsupportedFeature(
                    f"tensor {name} replaces a parameter of {path}, which is no norm in this base."
                )
            if f"{path}.{parameter}" in tensors:
                raise CorruptFile(f"tensor {name} is given twice, once as {path}.{parameter}.", hint="Save it again.")
            tensors[f"{path}.{parameter}"] = tensors.pop(name)
        return Lowered({})


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [LnTuning()]
