"""Types of PEFT that are refused by name, each with the reason and the way out."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapter_hub.errors import UnsupportedFeature
from adapter_hub.hookspecs import Lowered, Summary, Variant, hookimpl

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

MERGE = (
    "Where PEFT can merge it (merge_and_unload, then save_pretrained), add the result with "
    "`adapter-hub add NAME CHECKPOINT --tuned-from BASE`; else serve it with PEFT."
)
UNCHECKED = f"Its mathematics were not checked against PEFT's, and a guess would be wrong in silence. {MERGE}"
PROMPT = (
    "It puts vectors of its own before the prompt or into the cache, where the hub has tokens alone. Serve it with "
    "PEFT, or train a type that changes weights, such as LoRA."
)
REASONS = {
    **dict.fromkeys(
        "ADAMSS BEFT DEFT DELORA FROD GLORA GRALORA HIRA LILY OSF PEANUT PSOFT PVERA SHADOW SUPERTUNING TINYLORA "
        "UNILORA WAVEFT".split(),
        UNCHECKED,
    ),
    **dict.fromkeys(
        "ADAPTION_PROMPT CARTRIDGE CPT MULTITASK_PROMPT_TUNING P_TUNING PREFIX_TUNING PROMPT_TUNING".split(), PROMPT
    ),
    "POLY": (
        "How its pairs are mixed depends on a task that each input names, which prompts do not. Serve it with PEFT, or "
        "train one LoRA a task."
    ),
    "XLORA": (
        "How it mixes its LoRAs follows from a forward of its own over the whole input, and PEFT's file leaves tensors "
        "of them out. Register the LoRAs that its config lists under adapters, each by itself."
    ),
}


class NotServed:
    """Knows the names, and why."""

    name = "not-served"

    def matches(self, config: Mapping[str, Any]) -> bool:
        """One of the types of the table."""
        kind = config.get("peft_type")
        return isinstance(kind, str) and kind in REASONS

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """The reason, in place of anything else."""
        return Summary({}, "unknown", (_sentence(config["peft_type"]),))

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """Raise ``UnsupportedFeature`` with the reason."""
        raise UnsupportedFeature(_sentence(config["peft_type"]))


def _sentence(kind: str) -> str:
    return f"the adapter is of type {kind}, which is not served. {REASONS[kind]}"


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [NotServed()]
