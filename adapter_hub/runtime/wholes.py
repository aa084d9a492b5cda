"""Tensors that are views of others: which part of which."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from torch import Tensor


class Wholes:
    """Finds tensors again as parts of others, so that copies of the others can stand for them.

    Args:
        tensors: the wholes; kept in the order of their addresses.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = sorted(tensors, key=lambda tensor: tensor.data_ptr())
        self._starts = [tensor.data_ptr() for tensor in self.tensors]

    def part(self, tensor: Tensor, copies: Sequence[Tensor]) -> Tensor | None:
        """The part that ``tensor`` is of a whole, in the copy that stands for it; None if it is part of none."""
        k = bisect_right(self._starts, tensor.data_ptr()) - 1
        if k < 0 or tensor.data_ptr() >= self._starts[k] + self.tensors[k].nbytes:
            return None
        inside = (tensor.data_ptr() - self._starts[k]) // tensor.itemsize
        return copies[k].as_strided(tensor.size(), tensor.stride(), copies[k].storage_offset() + inside)
