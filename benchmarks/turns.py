"""Sides that take turns, so that a slow moment of the machine meets all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from torch import Tensor

PROMPT = 32


def prompts(rows: int, seed: int = 1) -> Tensor:
    """Token ids [rows, PROMPT]."""
    return torch.randint(100, 20000, (rows, PROMPT), generator=torch.Generator().manual_seed(seed))


def assign(rows: int, distinct: int) -> list[str]:
    """Adapters of the rows, neighbours with different ones."""
    return [f"a{k % distinct}" for k in range(rows)]


def take_turns(sides: Mapping[str, Callable[[], float]], turns: int) -> dict[str, list[float]]:
    """Seconds of each side in each turn, after one that is not counted."""
    for run in sides.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, run in sides.items():
            times[name].append(run())
    return times


def rates(times: Mapping[str, Sequence[float]], tokens: int) -> dict[str, float]:
    """Tokens a second by side, and of each side in terms of those before it: medians, of the ratio within one turn."""
    figures = {f"{name}_tokens_per_second": tokens / median(found) for name, found in times.items()}
    names = list(times)
    for k, name in enumerate(names):
        for other in names[:k]:
            pairs = zip(times[other], times[name], strict=True)
            figures[f"{name}_over_{other}"] = median(theirs / own for theirs, own in pairs)
    return figures
