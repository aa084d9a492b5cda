"""Stacks: the same parts of several updates side by side, so that one product serves them all."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping

import torch
from torch import Tensor

from ..updates import LinearUpdate, SiteUpdate
from .pages import allocate

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
    """How many bytes all stacks together may take, and in which type they hold factors. Safe from any thread."""

    def __init__(self, limit: int, dtype: torch.dtype = torch.float32) -> None:
        self.limit = limit
        self.dtype = dtype
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
    """Copies of updates of one key, each in a lane of its own.

    A lane is written while nobody uses it: before any plan points to it, and again after its slot was emptied.

    ``lanes`` says which slot's update is where. ``parts`` holds A as [lanes, in, r], B as [lanes, r, out] and scales
    and bias as [lanes, n]: so each product reads memory in order. A factor that all have in common is not copied;
    it is in ``shared`` as it is stored.

    Args:
        updates: by slot.
        capacity: lanes.
        shared: names of the factors that are not copied.
        dtype: of the copied factors.
    """

    def __init__(
        self, updates: Mapping[int, LinearUpdate], capacity: int, shared: frozenset[str], dtype: torch.dtype
    ) -> None:
        self.dtype = dtype
        self.lanes: dict[int, int] = {}
        self._free = list(range(capacity))[::-1]
        tensors = next(iter(updates.values())).tensors()
        self.names = frozenset(tensors)
        self.shared = {name: tensors[name] for name in shared}
        shapes = {
            name: ((capacity, *reversed(tensor.shape)), _dtype_in_stack(name, tensor, dtype))
            for name, tensor in tensors.items()
            if name not in shared
        }
        self.parts = allocate(shapes, next(iter(tensors.values())).device)
        self.add(updates)

    @classmethod
    def within(
        cls,
        budget: StackBudget,
        updates: Mapping[int, LinearUpdate],
        capacity: int,
        shared: frozenset[str],
        dtype: torch.dtype,
    ) -> Stack | None:
        """A stack that counts its bytes for as long as anybody holds it; None where they do not fit."""
        tensors = next(iter(updates.values())).tensors()
        num_bytes = capacity * sum(
            tensor.numel() * _dtype_in_stack(name, tensor, dtype).itemsize
            for name, tensor in tensors.items()
            if name not in shared
        )
        if not budget.take(num_bytes):
            return None
        try:
            stack = cls(updates, capacity, shared, dtype)
        except BaseException:
            budget.give_back(num_bytes)
            raise
        weakref.finalize(stack, budget.give_back, num_bytes).atexit = False
        return stack

    def add(self, updates: Mapping[int, LinearUpdate]) -> bool:
        """Copy those slots' updates that it lacks into free lanes; False, and nothing done, where there are too few."""
        missing = updates.keys() - self.lanes.keys()
        if len(missing) > len(self._free):
            return False
        with torch.inference_mode(False):
            for slot in missing:
                lane, tensors = self._free.pop(), updates[slot].tensors()
                for name, part in self.parts.items():
                    part[lane].copy_(tensors[name].T if name in FACTORS else tensors[name])
                self.lanes[slot] = lane
        return True

    def remove(self, slot: int) -> None:
        """Free the lane of a slot that no row uses any more."""
        lane = self.lanes.pop(slot, None)
        if lane is not None:
            self._free.append(lane)


def _dtype_in_stack(name: str, tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    if name in FACTORS:
        return dtype
    return torch.float32 if name in IN_FLOAT32 else tensor.dtype
