"""Alphas that a file gives module by module, as settings of a PEFT configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any


def alpha_settings(alphas: Mapping[str, float]) -> dict[str, Any]:
    """``lora_alpha``, the most frequent of the alphas, and ``alpha_pattern`` with the modules that have another."""
    if not alphas:
        return {}
    usual = Counter(alphas.values()).most_common(1)[0][0]
    others = {f"^{module}": alpha for module, alpha in alphas.items() if alpha != usual}
    return {"lora_alpha": usual, **({"alpha_pattern": others} if others else {})}


def renamed_pattern(config: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """A config whose ``alpha_pattern`` names modules as ``rename`` has them. Other patterns stay as they are."""
    pattern = config.get("alpha_pattern")
    if not isinstance(pattern, dict):
        return dict(config)
    renamed = {(f"^{rename(key[1:])}" if key.startswith("^") else key): alpha for key, alpha in pattern.items()}
    return {**config, "alpha_pattern": renamed}


def widened(config: Mapping[str, Any], joined: Mapping[str, float]) -> dict[str, Any]:
    """A config for pairs that were joined: their rank has grown, and alpha grows with it, so that the scale stays.

    Args:
        config: with one alpha for all modules, or with none yet.
        joined: by path, how many times the rank has become what it was.
    """
    alpha = config.get("lora_alpha")
    if not joined or not isinstance(alpha, int | float):
        return dict(config)
    grown = {f"^{path}": alpha * times for path, times in joined.items()}
    return {**config, "alpha_pattern": {**grown, **(config.get("alpha_pattern") or {})}}
