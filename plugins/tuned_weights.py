"""Variant: full tuning and freeze tuning, as what they changed in the weights of their base.

    y = (W + dW) x,    or the tuned W itself in place of W

Exact parameters stand under their own names (``model.layers.29.mlp.up_proj.weight``); compressed changes are those of
``weight_changes``: low rank by SVD, or one bit a weight with a scale a row (after BitDelta, Liu et al. 2024, arXiv
2402.10193). ``plugins/tuned_checkpoint.py`` makes such an adapter of a tuned checkpoint and its base.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapter_hub.errors import UnsupportedFeature
from adapter_hub.hookspecs import Lowered, SiteSummary, Summary, Variant, hookimpl

from .native_folder import unknown_fields
from .peft_settings import is_number
from .weight_changes import is_change, summarise, take_changes

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

NAME = "tuned_weights"
KNOWN = frozenset(["relative_error"])


class TunedWeights:
    """Changed parameters of a whole checkpoint, exact or compressed."""

    name = NAME

    def matches(self, config: Mapping[str, Any]) -> bool:
        """This project's own format with ``variant: tuned_weights``."""
        return config.get("variant") == NAME

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """Every changed site; those whose change is no low-rank pair have no rank."""
        whole = {name.rpartition(".")[0]: SiteSummary(0) for name in tensors if not is_change(name)}
        return Summary({**summarise(tensors), **whole}, _what_is_kept(config), tuple(unknown_fields(config, KNOWN)))

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """``A`` and ``B``, or ``signs``; exact parameters are left under the base's own names."""
        refused = unknown_fields(config, KNOWN)
        if refused:
            raise UnsupportedFeature(refused[0])
        lossy = config.get("relative_error") not in (None, 0, 0.0)
        return Lowered(take_changes(tensors, base), (_what_is_kept(config),) if lossy else ())


def _what_is_kept(config: Mapping[str, Any]) -> str:
    error = config.get("relative_error")
    if not is_number(error) or not error:
        return "none: the tuned weights as they are"
    return f"the change of the weights is kept with a relative error of {error:.3g} (its norm over the change's)"


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [TunedWeights()]
