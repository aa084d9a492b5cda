"""What sums of updates have in common: what they ask of the base, and rows that the base does not know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import UnsupportedFeature
from .site import SiteShape

SMALL = 1e-3


class Frozen(Protocol):
    """What a sum may have to ask of the base."""

    def site(self, path: str) -> SiteShape:
        """Shapes of the site at ``path``."""
        ...

    def module(self, path: str) -> nn.Module:
        """Its module."""
        ...

    def dense_weight(self, path: str) -> Tensor:
        """W [out, in] of a linear site in float32."""
        ...

    def parameter(self, path: str, name: str) -> Tensor:
        """A parameter as the module holds it."""
        ...


def own_bias(path: str, base: Frozen) -> Tensor | None:
    """The base's bias at a site in float32 on the CPU, where it has one."""
    return base.parameter(path, "bias").detach().float().cpu() if "bias" in base.site(path).parameters else None


def own_table(path: str, base: Frozen) -> Tensor:
    """The base's embedding table [vocab, dim] in float32 on the CPU."""
    return base.parameter(path, "weight").detach().float().cpu()


def total(parts: Iterable[tuple[float, Tensor]]) -> Tensor:
    """``sum w_i t_i`` of (weight, tensor), in their order."""
    summed = None
    for weight, tensor in parts:
        summed = weight * tensor if summed is None else summed + weight * tensor
    assert summed is not None
    return summed


def total_weight(path: str, weights: Sequence[float]) -> float:
    """The sum of weights, to divide by.

    Raises:
        UnsupportedFeature: it is zero.
    """
    summed = sum(weights)
    if abs(summed) < SMALL:
        raise UnsupportedFeature(
            f"site {path}: the weights of the adapters that add tokens come to {summed:g}, so their rows have no mean.",
            hint="Give weights whose sum is not zero.",
        )
    return summed


def mean_rows(path: str, ids: Tensor, parts: Sequence[tuple[float, Tensor | None, Tensor | None]]) -> Tensor:
    """Rows of tokens beyond the base's vocabulary: the weighted mean of the parts that bring each."""
    rows = []
    for number in ids:
        given = [
            (w, new[int((listed == number).nonzero())].float())
            for w, listed, new in parts
            if listed is not None and new is not None and bool((listed == number).any())
        ]
        rows.append(total(given) / total_weight(path, [w for w, _ in given]))
    return torch.stack(rows) if rows else torch.zeros(0, *next(new.shape[1:] for _, _, new in parts if new is not None))


def union(ids: Sequence[Tensor]) -> Tensor:
    """All row numbers that are listed, once each and increasing."""
    return torch.unique(torch.cat(list(ids)))
