"""Stacks: the same parts of several updates side by side, so that one product serves them all."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from ..updates import LinearUpdate, SiteUpdate

FACTORS = ("A", "B")
# The branch is computed in float32 whatever its parts are stored in, so their type makes no difference.
IN_FLOAT32 = {"A", "B", "mid_scale", "branch_scale"}
AS_STORED = {"in_scale", "out_scale", "bias"}

StackKey = tuple[tuple[str, tuple[int, ...], torch.dtype | None], ...]


def stack_key(update: SiteUpdate) -> StackKey | None:
    """What updates must have in common to lie in one stack: parts, shapes and types. None for one that cannot.

    Anything with a part that is not listed here, and any class of a plugin, is left to its own ``output``.
    """
    if type(update) is not LinearUpdate:
        return None
    key = []
    for name, tensor in update.tensors().items():
        if tensor.dtype == torch.float64 or name not in IN_FLOAT32 | AS_STORED:
            return None
        key.append((name, tuple(tensor.shape), None if name in IN_FLOAT32 else tensor.dtype))
    return tuple(key) or None


class StackBudget:
    """How many bytes all stacks together may take. Safe from any thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def take(self, num_bytes: int) -> bool:
        """Count these bytes, if they still fit."""
        with self._lock:
            if self.used + num_bytes > self.limit:
                return False
            self.used += num_bytes
            return True

    def give_back(self, num_bytes: int) -> None:
        """These bytes are free again."""
        with self._lock:
            self.used -= num_bytes


class Stack:
    """Copies of updates of one key, each in a lane of its own. A written lane never changes.

    ``parts`` holds A as [lanes, r, in], B as [lanes, r, out] and scales and bias as [lanes, n]: so each product
    reads memory in order (with B as [lanes, out, r] it took 1.5 times as long). A factor that all have in common
    is not copied; it is in ``shared`` as it is stored.
    """

    def __init__(self, updates: Sequence[LinearUpdate], capacity: int, shared: frozenset[str]) -> None:
        self.capacity = capacity
        self.lanes: dict[LinearUpdate, int] = {}
        tensors = updates[0].tensors()
        self.shared = {name: tensors[name] for name in shared}
        with torch.inference_mode(False):
            self.parts = {
                name: torch.empty(
                    capacity,
                    *(reversed(tensor.shape) if name == "B" else tensor.shape),
                    dtype=torch.float32 if name in IN_FLOAT32 else tensor.dtype,
                    device=tensor.device,
                )
                for name, tensor in tensors.items()
                if name not in shared
            }
            for update in updates:
                self.add(update)

    @staticmethod
    def bytes_for(update: LinearUpdate, capacity: int, shared: frozenset[str]) -> int:
        """Bytes of a stack of updates like this one."""
        return capacity * sum(
            tensor.numel() * (4 if name in IN_FLOAT32 else tensor.itemsize)
            for name, tensor in update.tensors().items()
            if name not in shared
        )

    @classmethod
    def within(
        cls, budget: StackBudget, updates: Sequence[LinearUpdate], capacity: int, shared: frozenset[str]
    ) -> Stack | None:
        """A stack that counts its bytes for as long as anybody holds it; None where they do not fit."""
        num_bytes = cls.bytes_for(updates[0], capacity, shared)
        if not budget.take(num_bytes):
            return None
        try:
            stack = cls(updates, capacity, shared)
        except BaseException:
            budget.give_back(num_bytes)
            raise
        weakref.finalize(stack, budget.give_back, num_bytes).atexit = False
        return stack

    def add(self, update: LinearUpdate) -> int:
        """Copy an update into the next free lane, where no plan looks yet."""
        lane = len(self.lanes)
        with torch.inference_mode(False):
            for name, part in self.parts.items():
                tensor = update.tensors()[name]
                part[lane].copy_(tensor.T if name == "B" else tensor)
        self.lanes[update] = lane
        return lane

    def takes(self, update: LinearUpdate) -> bool:
        """Whether an update of this key shares the factors that the others share."""
        tensors = update.tensors()
        return all(same_memory(tensors[name], tensor) for name, tensor in self.shared.items())


def shared_factors(updates: Sequence[LinearUpdate]) -> frozenset[str]:
    """Factors that lie in the same memory for all of these updates: interned ones."""
    first = updates[0].tensors()
    return frozenset(
        name
        for name in FACTORS
        if name in first and all(same_memory(update.tensors()[name], first[name]) for update in updates[1:])
    )


def same_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape are the same numbers in the same place."""
    return one.data_ptr() == other.data_ptr() and one.stride() == other.stride()
