"""Bags: tokens of many adapters, few tokens each, in one product that reads just the rows each token needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from .scratch import in_float32


class Bags:
    """Tokens that have a lane, and the rows of a stacked factor that each of them multiplies.

    Args:
        members: by lane, its tokens.
        num_tokens: of the batch.
        device: of the base.

    ``tokens`` [m] are the positions of the tokens concerned, increasing; ``lane`` [m] is the lane of each.
    """

    def __init__(self, members: Mapping[int, Sequence[int]], num_tokens: int, device: torch.device) -> None:
        lane_of = {token: lane for lane, own in members.items() for token in own}
        tokens = sorted(lane_of)
        lanes = [lane_of[token] for token in tokens]
        self.num_tokens = num_tokens
        self.whole = len(tokens) == num_tokens
        self.run = slice(tokens[0], tokens[-1] + 1) if tokens[-1] - tokens[0] == len(tokens) - 1 else None
        self._lane_run = slice(lanes[0], lanes[-1] + 1) if all(b == a + 1 for a, b in pairwise(lanes)) else None
        before = accumulate((token in lane_of for token in range(num_tokens)), initial=0)
        with torch.inference_mode(False):
            self.tokens, self.lane = (torch.tensor(index, device=device) for index in (tokens, lanes))
            self._before = torch.tensor([*before][:-1], device=device)  # by token, how many of those before it have one
        self._rows: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def take(self, x: Tensor) -> Tensor:
        """The tokens concerned out of all: [tokens, n] -> [m, n]."""
        if self.run is not None:
            return x if self.whole else x[self.run]
        return x.index_select(0, self.tokens)

    def put(self, x: Tensor, values: Tensor) -> None:
        """Write the tokens concerned in place: ``x`` [tokens, n], ``values`` [m, n]."""
        if self.run is not None:
            x[self.run] = values
        else:
            x.index_copy_(0, self.tokens, values)

    def add(self, x: Tensor, values: Tensor) -> None:
        """Add in place: ``x`` [tokens, n], ``values`` [m, n], or [tokens, n] where ``product`` gave ``every`` token."""
        if len(values) == self.num_tokens:
            x.add_(values)
        elif self.run is not None:
            x[self.run].add_(values)
        else:
            x.index_add_(0, self.tokens, values)

    def of_lane(self, parameter: Tensor) -> Tensor:
        """A parameter of each token's lane: [lanes, n] -> [m, n]."""
        return parameter[self._lane_run] if self._lane_run is not None else parameter.index_select(0, self.lane)

    def rows(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of a table with ``n`` a lane, int32: all of them, where each token's begin, and that for every token.

        A token that is not concerned has none: the next one's begin where its own do.
        """
        found = self._rows.get(n)
        if found is None:
            with torch.inference_mode(False):
                device = self.lane.device
                rows = (self.lane.unsqueeze(1) * n + torch.arange(n, device=device)).flatten().int()
                own, of_every = torch.arange(len(self.lane), device=device) * n, self._before * n
            found = self._rows[n] = (rows, own.int(), of_every.int())
        return found


class BagProduct:
    """y[t] = x[t] @ factors[lane(t)], summed in float32, in the type of the factors.

    On a CPU torch's ``embedding_bag`` computes it near the speed of memory, on all cores and at any mix of lanes;
    ``bmm`` takes up to twice as long while a lane has few tokens (docs/decisions/0004-mixed-batches.md).

    Args:
        bags: the tokens.
        factors: [lanes, n, c], contiguous; float32 or of 16 bit.
        every: whether the other tokens of the batch get a row too: zeros.
    """

    def __init__(self, bags: Bags, factors: Tensor, every: bool = False) -> None:
        self._bags = bags
        self._n = factors.shape[1]
        self._table = factors.view(-1, factors.shape[2])
        self._rows, own, of_every = bags.rows(self._n)
        self._begin = of_every if every else own

    def __call__(self, x: Tensor) -> Tensor:
        """The product of ``x`` [m, n]: [m, c], or [tokens, c]."""
        exact = self._table.dtype == torch.float32
        weights = (in_float32(x) if exact else x.to(self._table.dtype)).reshape(-1)
        if x.requires_grad:  # embedding_bag has no gradient for its weights where its table wants none
            products = self._table.index_select(0, self._rows) * weights.unsqueeze(1)
            sums = products.view(-1, self._n, products.shape[1]).sum(1)
            if len(self._begin) == len(sums):
                return sums
            return sums.new_zeros(len(self._begin), sums.shape[1]).index_copy(0, self._bags.tokens, sums)
        result: Tensor = torch.embedding_bag(self._table, self._rows, self._begin, False, 0, False, weights)[0]
        return result
