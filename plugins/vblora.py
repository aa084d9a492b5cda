"""Variant: VB-LoRA (Li et al. 2024, arXiv 2405.15179, equation 3).

    y = W x + B A x

A and B consist of short vectors, each a mixture of the k best of one bank that all modules share. Mixed once, at load,
they are a low-rank pair like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch
from adapter_hub.hookspecs import Variant, hookimpl
from adapter_hub.updates import LinearUpdate, SiteUpdate

from .peft_settings import is_whole
from .peft_variant import Lowering, ModuleTensors, PeftVariant

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

BANK, LOGITS = "vblora_vector_bank", (".vblora_logits_A", ".vblora_logits_B")
INDICES, WEIGHTS = "_topk_indices", "_topk_weights"


class VbLora(PeftVariant):
    """Low-rank pairs mixed from a bank of vectors."""

    name = "vblora"
    peft_type = "VBLORA"
    marks = (LOGITS[0], LOGITS[0] + INDICES)
    known = frozenset(
        "init_logits_std init_vector_bank_bound num_vectors r save_only_topk_weights topk vblora_dropout "
        "vector_length".split()
    )
    scale_rule = "none"

    def rank(self, tensor: Tensor) -> int:
        """Rows of A."""
        return tensor.shape[0] if tensor.dim() else 0

    def refusals(self, config: Mapping[str, Any]) -> list[str]:
        """How many vectors a mixture has."""
        top = config.get("topk")
        found = [] if is_whole(top) and top > 0 else [f"the setting topk={top!r} is no number of vectors to mix."]
        return found + super().refusals(config)

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        bank = tensors.pop(BANK, None)
        if bank is None:
            raise CorruptFile(f"tensor {BANK} is missing.", hint="The file is incomplete.")
        if bank.dim() != 2 or not bank.is_floating_point() or len(bank) < config["topk"]:
            raise ShapeMismatch(
                f"tensor {BANK} is {list(bank.shape)}, no bank of {config['topk']} vectors or more to mix.",
                hint="The file is damaged.",
            )
        return _Mixtures(bank.float(), config["topk"])


class _Mixtures(Lowering):
    def __init__(self, bank: Tensor, top: int) -> None:
        self._bank = bank
        self._top = top

    def update(self, module: ModuleTensors) -> SiteUpdate:
        length = self._bank.shape[1]
        A = self._mixed(module, LOGITS[0])  # [r, in / length, length]
        B = self._mixed(module, LOGITS[1])  # [out / length, r, length]
        if len(A) != B.shape[1]:
            raise ShapeMismatch(
                f"tensors {module.path}{LOGITS[0]} of rank {len(A)} and {LOGITS[1]} of {B.shape[1]} make no product.",
                hint="The file is damaged.",
            )
        return LinearUpdate(A=A.flatten(1), B=B.transpose(1, 2).reshape(len(B) * length, len(A)))

    def _mixed(self, module: ModuleTensors, name: str) -> Tensor:
        """The mixtures of all the logits of one factor, [..., length]."""
        if module.has(name):
            logits = module.take(name, None, None, len(self._bank)).float()
        else:
            logits = self._logits(module, name)
        best, indices = logits.topk(self._top, dim=-1)
        return (best.softmax(-1).unsqueeze(-1) * self._bank[indices]).sum(-2)

    def _logits(self, module: ModuleTensors, name: str) -> Tensor:
        """Logits from the k indices and k - 1 weights that PEFT keeps of them to save space; the weights sum to one."""
        indices = module.take_whole(name + INDICES)
        if (
            indices.dim() != 3
            or indices.shape[2] != self._top
            or bool(((indices < 0) | (indices >= len(self._bank))).any())
        ):
            raise ShapeMismatch(
                f"tensor {module.path}{name}{INDICES} is no mixtures of {self._top} of {len(self._bank)} vectors.",
                hint="The file is damaged.",
            )
        weights = module.take(name + WEIGHTS, *indices.shape[:2], self._top - 1).float()
        weights = torch.cat([weights, 1 - weights.sum(-1, keepdim=True)], dim=-1)
        none = torch.full((*indices.shape[:2], len(self._bank)), float("-inf"))
        return none.scatter(-1, indices, weights.log())


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [VbLora()]
