"""LoRA pairs on a base, through PEFT's layers, for methods that PEFT does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ..base_model import BaseModel

ADAPTER = "default"
_WRAPPER = "base_model.model."


def add_pairs(base: BaseModel, rank: int, alpha: float, targets: Sequence[str]) -> tuple[PeftModel, dict[str, Any]]:
    """The base with a pair at every target, and those layers by the paths of their modules."""
    config = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=alpha, target_modules=list(targets))
    model = get_peft_model(base.model, config).train()
    layers = {
        name.removeprefix(_WRAPPER): module for name, module in model.named_modules() if isinstance(module, LoraLayer)
    }
    return model, layers


def pair_of(layer: Any) -> tuple[nn.Parameter, nn.Parameter]:
    """A [r, in] and B [out, r] of a layer."""
    return layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight


def product(layer: Any) -> Tensor:
    """s B A of a layer, without its history."""
    A, B = pair_of(layer)
    return layer.scaling[ADAPTER] * (B.detach() @ A.detach())
