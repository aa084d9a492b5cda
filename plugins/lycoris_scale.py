"""The constant in front of a LyCORIS type's change, as PEFT takes it: alpha / r, both by pattern."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapter_hub.errors import UnsupportedFeature

from .peft_patterns import PatternTable
from .peft_settings import is_number, is_whole

SETTINGS = frozenset("alpha alpha_pattern module_dropout r rank_dropout rank_pattern use_effective_conv2d".split())


class LycorisScale:
    """Scales by module.

    Raises:
        UnsupportedFeature: the patterns are not in order.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._alpha = float(config["alpha"])
        self._rank: Any = config.get("r")
        self._alphas = PatternTable("alpha_pattern", config.get("alpha_pattern") or {})
        self._ranks = PatternTable("rank_pattern", config.get("rank_pattern") or {})

    def at(self, path: str, rank: int | float | None) -> float:
        """The constant at one module.

        Args:
            path: of the module.
            rank: of its factors; None where it has none, and the config alone knows r.

        Raises:
            UnsupportedFeature: it is None, and the config does not say.
        """
        alpha = self._alphas.value_of(path)
        if rank is None:
            named = self._ranks.value_of(path)
            rank = self._rank if named is None else named
        if not is_whole(rank) or rank < 1:
            raise UnsupportedFeature(f"the setting r={rank!r} is no rank, so the scale of the update is not known.")
        return (self._alpha if alpha is None else alpha) / rank


def scale_refusals(config: Mapping[str, Any]) -> list[str]:
    """A sentence where the config does not say what the scale is."""
    if is_number(config.get("alpha")):
        return []
    return ["the config has no number for alpha, so the scale of the update is not known."]
