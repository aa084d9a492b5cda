"""Ways to combine task tensors, one of each adapter, into one: sums, with pruning before and an election of signs.

    sum              sum_i w_i t_i                              task arithmetic (Ilharco et al. 2022, arXiv 2212.04089)
    magnitude prune  the same over the largest values of each t_i
    DARE             the same over values kept at random, divided by their share (Yu et al. 2023, arXiv 2311.03099)
    TIES             over the largest values, the mean of those that have the elected sign (Yadav et al. 2023,
                     arXiv 2306.01708)

as PEFT's ``add_weighted_adapter`` has them: pruning and election see the tensors without their weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from adapter_hub.errors import RequestError

PRUNING = {"density": "share of the values that each adapter keeps, above 0 and at most 1"}
ELECTION = {"majority_sign_method": "a value's sign is elected by 'total' sizes (the default) or by 'frequency'"}
SIGN_METHODS = ("total", "frequency")


@dataclass(frozen=True)
class Arithmetic:
    """How task tensors are combined.

    Args:
        prune: which values of each tensor are dropped first.
        elect: whether only values of the elected sign are taken, and their mean in place of their sum.
        density: share of the values that pruning keeps.
        by_frequency: whether each tensor has one vote on a sign, instead of as many as its value is large.
    """

    prune: Literal["none", "magnitude", "random"] = "none"
    elect: bool = False
    density: float = 1.0
    by_frequency: bool = False

    @property
    def options(self) -> dict[str, str]:
        """Names and meanings of the options that matter to it."""
        return (PRUNING if self.prune != "none" else {}) | (ELECTION if self.elect else {})

    def under(self, options: Mapping[str, Any]) -> Arithmetic:
        """The same with the user's options.

        Raises:
            RequestError: one is missing, or has a value that it cannot have.
        """
        if self.prune == "none":
            return self
        density, signs = options.get("density"), options.get("majority_sign_method", SIGN_METHODS[0])
        if not isinstance(density, int | float) or isinstance(density, bool) or not 0 < density <= 1:
            raise RequestError(f"density is {density!r}.", hint="Give the share that is kept, above 0 and at most 1.")
        if signs not in SIGN_METHODS:
            raise RequestError(f"majority_sign_method is {signs!r}.", hint=f"Choose {' or '.join(SIGN_METHODS)}.")
        return Arithmetic(self.prune, self.elect, float(density), signs == "frequency")

    def combine(self, tensors: Sequence[Tensor], weights: Sequence[float], generator: Generator) -> Tensor:
        """One tensor of many of its shape, each with its weight."""
        stacked = torch.stack([self._pruned(tensor.float(), generator) for tensor in tensors])
        weighted = stacked * torch.tensor(weights).view(-1, *[1] * tensors[0].dim())
        if not self.elect:
            return weighted.sum(0)
        signs = stacked.sign()
        elected = torch.where((signs if self.by_frequency else stacked).sum(0) >= 0, 1.0, -1.0)
        agrees = signs == elected
        return (weighted * agrees).sum(0) / agrees.sum(0).clamp(min=1)

    def _pruned(self, tensor: Tensor, generator: Generator) -> Tensor:
        if self.prune == "none" or self.density == 1:
            return tensor
        if self.prune == "random":
            return tensor * torch.bernoulli(torch.full_like(tensor, self.density), generator=generator) / self.density
        kept = torch.topk(tensor.abs().flatten(), int(self.density * tensor.numel())).indices
        mask = torch.zeros(tensor.numel()).index_fill(0, kept, 1.0)
        return tensor * mask.view_as(tensor)


ARITHMETICS = {
    "linear": (Arithmetic(), "the weighted sum"),
    "ties": (Arithmetic("magnitude", elect=True), "the mean of large values of the elected sign"),
    "dare_linear": (Arithmetic("random"), "the weighted sum of values kept at random"),
    "dare_ties": (Arithmetic("random", elect=True), "the mean of values kept at random, of the elected sign"),
    "magnitude_prune": (Arithmetic("magnitude"), "the weighted sum of the largest values"),
}
