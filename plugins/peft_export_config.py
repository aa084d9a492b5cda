"""The ``adapter_config.json`` of a LoRA that is written out: its modules, ranks, and what stands beside the pairs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers.pytorch_utils import Conv1D

from .peft_folder import CONFIG

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel


@dataclass
class Stored:
    """What was written, by path of the module.

    Args:
        ranks: of the pairs.
        tokens: numbers of trained tokens.
        modules: saved whole.
        biases: whole biases in place of the base's.
        pair_biases: added by the pair.
    """

    ranks: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    biases: dict[str, Tensor] = field(default_factory=dict)
    pair_biases: dict[str, Tensor] = field(default_factory=dict)


def config_of(stored: Stored, base: BaseModel, base_name: str) -> dict[str, Any]:
    """The settings under which PEFT builds exactly what was written.

    Scales are folded into the pairs, so alpha is the rank everywhere: readers that know one alpha and one rank for
    all modules, and no patterns, come to the same constant of 1.
    """
    largest = max(stored.ranks.values())
    others = {path: rank for path, rank in stored.ranks.items() if rank != largest}
    pattern = _by_name(others, stored.ranks)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": largest,
        "lora_alpha": largest,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "target_modules": _targets(stored.ranks, base),
        "modules_to_save": stored.modules or None,
        "trainable_token_indices": stored.tokens or None,
        "bias": "all" if stored.biases else "none",
        "lora_bias": bool(stored.pair_biases),
        "lora_dropout": 0.0,
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": any(isinstance(base.module(path), Conv1D) for path in stored.ranks),
        "init_lora_weights": True,
    }


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write it as PEFT names it."""
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _targets(paths: Iterable[str], base: BaseModel) -> list[str]:
    """The modules' last names, where every module of that name is meant; else whole paths."""
    chosen = set(paths)
    every = [path for path, _ in base.model.named_modules()]
    names = {name for name in map(_last, chosen) if all(path in chosen for path in every if _last(path) == name)}
    return sorted(names | {path for path in chosen if _last(path) not in names})


def _by_name(values: Mapping[str, int], every: Mapping[str, int]) -> dict[str, int]:
    """Values under modules' last names, where all modules of that name have one value; else under whole paths."""
    found = {}
    for path, value in values.items():
        alike = all(other == value for name, other in every.items() if _last(name) == _last(path))
        found[_last(path) if alike else path] = value
    return found


def _last(path: str) -> str:
    return path.rpartition(".")[2]
