"""Bags: tokens of many adapters, few tokens each, in one product that reads just the rows each token needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .scratch import in_float32


class Bags:
    """Tokens in the order of their lanes, and the rows of a stacked factor that each of them multiplies.

    Args:
        members: by lane, in increasing order, its tokens, increasing.
        num_tokens: of the batch.
        device: of the base.

    ``order`` [m] are the positions of the tokens concerned, ``lane`` [m] is the lane of each.
    """

    def __init__(self, members: Mapping[int, Sequence[int]], num_tokens: int, device: torch.device) -> None:
        order = [token for own in members.values() for token in own]
        rest = sorted(set(range(num_tokens)).difference(order))
        back = [0] * num_tokens
        for k, token in enumerate(order + rest):
            back[token] = k
        in_order = all(b == a + 1 for a, b in pairwise(order))
        self.num_tokens = num_tokens
        self.whole = not rest
        self.run = slice(order[0], order[-1] + 1) if in_order else None
        lanes = [lane for lane, own in members.items() for _ in own]
        self._lane_run = slice(lanes[0], lanes[-1] + 1) if all(b == a + 1 for a, b in pairwise(lanes)) else None
        with torch.inference_mode(False):
            self.order, self.lane = (torch.tensor(index, device=device) for index in (order, lanes))
            self._back = None if self.whole and in_order else torch.tensor(back, device=device)
        self._rows: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def take(self, x: Tensor) -> Tensor:
        """The tokens concerned out of all: [tokens, n] -> [m, n]."""
        if self.run is not None:
            return x if self.whole else x[self.run]
        return x.index_select(0, self.order)

    def put(self, x: Tensor, values: Tensor) -> None:
        """Write the tokens concerned in place: ``x`` [tokens, n], ``values`` [m, n]."""
        if self.run is not None:
            x[self.run] = values
        else:
            x.index_copy_(0, self.order, values)

    def add(self, x: Tensor, values: Tensor) -> None:
        """Add in place: ``x`` [tokens, n], ``values`` [m, n], or [tokens, n] where ``product`` gave ``every`` token."""
        if len(values) == self.num_tokens:
            x.add_(values if self._back is None else values.index_select(0, self._back))
        elif self.run is not None:
            x[self.run].add_(values)
        else:
            x.index_add_(0, self.order, values)

    def of_lane(self, parameter: Tensor) -> Tensor:
        """A parameter of each token's lane: [lanes, n] -> [m, n]."""
        return parameter[self._lane_run] if self._lane_run is not None else parameter.index_select(0, self.lane)

    def rows(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of a table with ``n`` a lane: all of them, where each token's begin, and the same for every token.

        All int32; those of the tokens that are not concerned begin at the end.
        """
        found = self._rows.get(n)
        if found is None:
            with torch.inference_mode(False):
                device = self.lane.device
                rows = (self.lane.unsqueeze(1) * n + torch.arange(n, device=device)).flatten().int()
                begin = torch.arange(self.num_tokens, device=device).mul(n).clamp(max=len(rows)).int()
            found = self._rows[n] = (rows, begin[: len(self.lane)], begin)
        return found


class BagProduct:
    """y[t] = x[t] @ factors[lane(t)], summed in float32, in the type of the factors.

    On a CPU torch's ``embedding_bag`` computes it near the speed of memory, on all cores and at any mix of lanes;
    ``bmm`` takes up to twice as long while a lane has few tokens (docs/decisions/0004-mixed-batches.md).

    Args:
        bags: the tokens.
        factors: [lanes, n, c], contiguous; float32 or of 16 bit.
        every: whether the other tokens of the batch get a row too: zeros, after those concerned.
    """

    def __init__(self, bags: Bags, factors: Tensor, every: bool = False) -> None:
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
            return torch.cat([sums, sums.new_zeros(len(self._begin) - len(sums), sums.shape[1])])
        result: Tensor = torch.embedding_bag(self._table, self._rows, self._begin, False, 0, False, weights)[0]
        return result
