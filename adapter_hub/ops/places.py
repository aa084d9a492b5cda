"""Lanes of equal width: the order in which one batched product serves several adapters with many tokens each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


class Places:
    """Two orders of the same rows: that of the batch's tokens, and lanes of equal width, one a slot.

    Args:
        members: tokens of each lane, increasing; none for a lane that this batch does not use.
        width: places a lane; what a lane has left over holds token 0, and nobody reads its result.
        num_tokens: of the batch.
        device: of the base.

    ``tokens`` [m] are the positions of all tokens concerned, increasing; ``lane`` [m] is the lane of each.
    """

    def __init__(self, members: Sequence[Sequence[int]], width: int, num_tokens: int, device: torch.device) -> None:
        self.shape = (len(members), width)
        source, place = [0] * (len(members) * width), {}
        for lane, own in enumerate(members):
            for k, token in enumerate(own):
                source[lane * width + k] = token
                place[token] = lane * width + k
        tokens = sorted(place)
        back = [place[token] for token in tokens]
        self.whole = len(tokens) == num_tokens
        self.run = slice(tokens[0], tokens[-1] + 1) if tokens[-1] - tokens[0] == len(tokens) - 1 else None
        self._in_order = self.whole and source == tokens
        self._back_in_order = all(b == a + 1 for a, b in pairwise(back)) and len(back) == len(source)
        with torch.inference_mode(False):
            self.tokens, self._source, self._back, self.lane = (
                torch.tensor(index, device=device) for index in (tokens, source, back, [p // width for p in back])
            )

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
        """Add to the tokens concerned in place: ``x`` [tokens, n], ``values`` [m, n]."""
        if self.run is not None:
            (x if self.whole else x[self.run]).add_(values)
        else:
            x.index_add_(0, self.tokens, values)

    def in_lanes(self, x: Tensor) -> Tensor:
        """All tokens in the order of lanes: [tokens, n] -> [lanes, width, n]."""
        return (x if self._in_order else x.index_select(0, self._source)).view(*self.shape, -1)

    def to_lanes(self, values: Tensor) -> Tensor:
        """The tokens concerned in the order of lanes: [m, n] -> [lanes, width, n]; other places are zero."""
        if self._back_in_order:
            return values.view(*self.shape, -1)
        spread = values.new_zeros(self.shape[0] * self.shape[1], values.shape[-1])
        return spread.index_copy_(0, self._back, values).view(*self.shape, -1)

    def from_lanes(self, values: Tensor) -> Tensor:
        """Back in the order of tokens: [lanes, width, n] -> [m, n]."""
        flat = values.flatten(0, 1)
        return flat if self._back_in_order else flat.index_select(0, self._back)

    def of_lane(self, parameter: Tensor) -> Tensor:
        """A parameter of each token's lane: [lanes, n] -> [m, n]."""
        return parameter if self._back_in_order and self.shape[1] == 1 else parameter.index_select(0, self.lane)
