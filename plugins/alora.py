"""Variant: aLoRA, activated LoRA (Greenewald et al. 2025, arXiv 2504.12397, section 3).

    y_t = W x_t + s B A x_t    for tokens t from the invocation on,    y_t = W x_t    before

The adapter begins to act at the last occurrence of its invocation tokens in the prompt. What comes before is the
base's, keys and values included, so that it can be shared with the base and with other adapters. A prompt without
the invocation is answered by the base.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapter_hub.errors import UnsupportedFeature
from adapter_hub.hookspecs import Lowered, Summary, Variant, hookimpl
from adapter_hub.updates import LinearUpdate

from .lora import Lora, lower_pairs
from .peft_settings import is_whole

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

INVOCATION = "alora_invocation_tokens"


class Alora:
    """Low-rank pairs at linears that act from certain tokens on."""

    name = "alora"

    def matches(self, config: Mapping[str, Any]) -> bool:
        """PEFT's LORA with invocation tokens."""
        return config.get("peft_type") == "LORA" and bool(config.get(INVOCATION)) and not config.get("use_dora")

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """As LoRA."""
        summary = Lora().describe(tensors, _without(config))
        return replace(summary, refused=(*summary.refused, *_refusals(config)))

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """LoRA's updates, and the tokens from which on they act."""
        for sentence in _refusals(config):
            raise UnsupportedFeature(sentence)
        updates = lower_pairs(tensors, _without(config), base)
        other = next((path for path, update in updates.items() if type(update) is not LinearUpdate), None)
        if other is not None or tensors:
            # PEFT lets those act on every token, the pairs beside them not.
            raise UnsupportedFeature(
                f"tensor {min(tensors) if tensors else other} is no pair at a linear: an adapter that acts from its "
                "invocation on has nothing else.",
                hint="Train it without modules_to_save, biases, embeddings and trained tokens.",
            )
        return Lowered(updates, invocation=tuple(config[INVOCATION]))


def _without(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != INVOCATION}


def _refusals(config: Mapping[str, Any]) -> list[str]:
    tokens = config[INVOCATION]
    if isinstance(tokens, list) and all(is_whole(token) and token >= 0 for token in tokens):
        return []
    return [f"the setting {INVOCATION}={tokens!r} is no list of token ids."]


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Alora()]
