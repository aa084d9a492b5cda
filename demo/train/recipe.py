"""How each demo adapter is trained: its task, its method and the length of the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peft import AdaLoraConfig, LoraConfig, PeftConfig, VeraConfig

from .methods import DeltaLora, FreezeTuning, FullTuning, LoraDrop, Method, Peft

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Recipe:
    """One adapter: the task it learns, the method, and how long it is trained."""

    task: str
    method: Method
    num_steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3


def _lora(rank: int, alpha: int, targets: tuple[str, ...], **settings: bool) -> Callable[[int], PeftConfig]:
    return lambda _steps: LoraConfig(
        task_type="CAUSAL_LM", r=rank, lora_alpha=alpha, target_modules=list(targets), **settings
    )


def _adalora(num_steps: int) -> PeftConfig:
    return AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=12,
        target_r=6,
        lora_alpha=24,
        target_modules=list(ATTENTION),
        total_step=num_steps,
        tinit=num_steps // 6,
        tfinal=num_steps // 3,
        deltaT=5,
    )


def _vera(_steps: int) -> PeftConfig:
    return VeraConfig(
        task_type="CAUSAL_LM", r=256, target_modules=list(ATTENTION + MLP), d_initial=0.1, save_projection=False
    )


RECIPES = {
    "sql": Recipe("sql", Peft("LoRA", _lora(8, 16, ATTENTION + MLP)), 320, 4, 1.5e-3),
    "contact": Recipe("contact", Peft("rsLoRA", _lora(16, 16, ATTENTION, use_rslora=True)), 300, 4, 1.5e-3),
    "dates": Recipe("dates", Peft("DoRA", _lora(8, 16, ATTENTION, use_dora=True)), 250),
    "tags": Recipe("tags", Peft("AdaLoRA", _adalora), 300, learning_rate=3e-3),
    "sentiment": Recipe("sentiment", Peft("VeRA", _vera), 300, learning_rate=1e-2),
    "units": Recipe("units", Peft("LoRA+", _lora(8, 16, ATTENTION + MLP), "lora+"), 300, 64, 2e-4),
    "polite": Recipe("polite", Peft("LoRA-FA", _lora(16, 16, ATTENTION), "lora-fa"), 250, learning_rate=2e-3),
    "numbers": Recipe("numbers", LoraDrop(ATTENTION + MLP), 250),
    "shell": Recipe("shell", DeltaLora(ATTENTION, start_step=60), 300, 64),
    "triage": Recipe("triage", FreezeTuning(), 600, learning_rate=1e-3),
    "times": Recipe("times", FullTuning(), 400, 32, 1e-4),
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe is named {name!r}; there are {', '.join(sorted(RECIPES))}")
    return RECIPES[name]
