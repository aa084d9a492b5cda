"""How each demo adapter is trained: its PEFT config and the length of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peft import LoraConfig, PeftConfig

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
_ALWAYS_SHOWN = ("r", "lora_alpha")
_NEVER_SHOWN = ("task_type", "peft_type")


@dataclass(frozen=True)
class Recipe:
    """One adapter: the task it learns, its PEFT config, and how it is trained."""

    task: str
    method: str
    config: Callable[[], PeftConfig]
    num_steps: int
    batch_size: int = 4
    learning_rate: float = 1.5e-3

    def settings(self) -> dict[str, Any]:
        """The settings of the PEFT config that matter: rank, alpha and what is not PEFT's default."""
        config = self.config()
        plain, ours = type(config)().to_dict(), config.to_dict()
        shown = [name for name in _ALWAYS_SHOWN if name in ours]
        shown += [name for name in ours if ours[name] != plain.get(name) and name not in (*shown, *_NEVER_SHOWN)]
        return {name: sorted(ours[name]) if isinstance(ours[name], set) else ours[name] for name in shown}


def _sql() -> PeftConfig:
    return LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=ATTENTION + MLP)


def _contact() -> PeftConfig:
    return LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=16, use_rslora=True, target_modules=ATTENTION)


RECIPES = {
    "sql": Recipe("sql", "LoRA", _sql, num_steps=320),
    "contact": Recipe("contact", "rsLoRA", _contact, num_steps=300),
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe is named {name!r}; there are {', '.join(sorted(RECIPES))}")
    return RECIPES[name]
