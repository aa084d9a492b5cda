"""Adapters that PEFT trains: LoRA and its relatives, with PEFT's own optimisers where a method is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer
from torch import Tensor

from ..base_model import BASE_NAME, BaseModel, load_base
from ..batches import Batch
from .learner import Learner, adamw, adamw_class, adamw_name

LORAPLUS_RATIO = 16
_ALWAYS_SHOWN = ("r", "lora_alpha")
_NEVER_SHOWN = ("task_type", "peft_type", "total_step", "tinit", "tfinal")  # the last three follow the length of a run


@dataclass(frozen=True)
class Peft:
    """A PEFT config, made for a number of steps, and ``adamw``, ``lora+`` or ``lora-fa`` to train it with."""

    title: str
    config: Callable[[int], PeftConfig]
    optimiser: str = "adamw"
    how = "with PEFT on the frozen base in NF4 with double quantisation"

    @property
    def optimizer(self) -> str:
        """The optimiser's name, for the card."""
        return {
            "adamw": adamw_name(),
            "lora+": f"LoRA+'s {adamw_name()} (B learns {LORAPLUS_RATIO} times as fast as A)",
            "lora-fa": "LoRA-FA's AdamW (A stays at its random start)",
        }[self.optimiser]

    @property
    def settings(self) -> dict[str, Any]:
        """Rank, alpha and what is not PEFT's default."""
        config = self.config(1)
        ours = config.to_dict()
        plain = type(config)(**{name: ours[name] for name in ("total_step",) if name in ours}).to_dict()
        shown = [name for name in _ALWAYS_SHOWN if name in ours]
        shown += [name for name in ours if ours[name] != plain.get(name) and name not in (*shown, *_NEVER_SHOWN)]
        return {name: sorted(ours[name]) if isinstance(ours[name], set) else ours[name] for name in shown}

    def load(self, folder: Path | None) -> BaseModel:
        """The base in NF4."""
        return load_base(folder)

    def start(self, base: BaseModel, batches: Sequence[Batch], learning_rate: float) -> Learner:
        """A PEFT model around the base."""
        model = get_peft_model(base.model, self.config(len(batches)))
        # PEFT writes down where it loaded the base from, which is a folder of this machine.
        model.active_peft_config.base_model_name_or_path = BASE_NAME
        return _PeftLearner(model.train(), self._optimizer(model, learning_rate))

    def _optimizer(self, model: PeftModel, learning_rate: float) -> torch.optim.Optimizer:
        config = model.active_peft_config
        if self.optimiser == "lora+":
            return create_loraplus_optimizer(
                model, adamw_class(), lr=learning_rate, loraplus_lr_ratio=LORAPLUS_RATIO, loraplus_weight_decay=0.0
            )
        if self.optimiser == "lora-fa":
            return create_lorafa_optimizer(model, r=config.r, lora_alpha=config.lora_alpha, lr=learning_rate)
        return adamw([parameter for parameter in model.parameters() if parameter.requires_grad], learning_rate)


class _PeftLearner(Learner):
    def __init__(self, model: PeftModel, optimizer: torch.optim.Optimizer) -> None:
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        super().__init__(model.get_base_model(), learning, optimizer)
        self.model = model
        self.config: Mapping[str, Any] = model.active_peft_config.to_dict()
        self.is_adalora = self.config["peft_type"] == "ADALORA"

    def regularisation(self) -> Tensor | float:
        """AdaLoRA keeps its P and Q near orthogonal; PEFT adds this only where it computes the loss itself."""
        if not self.is_adalora:
            return 0.0
        terms = []
        for name, factor in self.model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = factor @ factor.T if "lora_A" in name else factor.T @ factor
                terms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
        return self.config["orth_reg_weight"] * torch.stack(terms).mean()

    def after_step(self, step: int) -> None:
        """AdaLoRA moves its budget by the gradients of the step."""
        if self.is_adalora:
            self.model.base_model.update_and_allocate(step)

    def save(self, out: Path) -> None:
        """As PEFT does, matrices in bfloat16."""
        prefix = self.model.active_peft_config.peft_type.lower().removeprefix("ada") + "_"
        # Vectors stay as they are: DoRA's magnitudes begin as norms of W, and move by less than bfloat16 tells apart.
        tensors = {
            name: tensor.bfloat16() if f".{prefix}" in name and tensor.dim() > 1 else tensor
            for name, tensor in self.model.state_dict().items()
        }
        # save_embedding_layers=False: "auto" would ask the Hub for the base's vocabulary.
        self.model.save_pretrained(out, state_dict=tensors, save_embedding_layers=False)
