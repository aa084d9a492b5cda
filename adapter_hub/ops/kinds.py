"""Which updates of a site can lie in one stack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..updates import LinearUpdate, SiteUpdate
from .stacks import FACTORS, Stack, StackKey, stack_key

Factor = tuple[str, int, tuple[int, ...]]  # A or B, its address and strides


@dataclass(eq=False)
class Kind:
    """Updates with the same parts, shapes and types, and the very same factors where others have those too.

    Args:
        shared: names of the factors that are common; they are not copied.
        stack: copies of those members that a batch has used, once one has.
        members: how many slots are of this kind.
    """

    shared: frozenset[str]
    stack: Stack | None = None
    members: int = 0


class Kinds:
    """The kind of each slot, kept while updates come and go, so that to plan a batch is to look them up.

    A slot without a kind is left to its update's own ``output``.
    """

    def __init__(self) -> None:
        self.of: dict[int, Kind] = {}
        self._facts: dict[int, tuple[StackKey, tuple[Factor, ...]]] = {}
        self._holders: dict[Factor, set[int]] = {}
        self._kinds: dict[tuple[StackKey, tuple[Factor, ...]], Kind] = {}

    def add(self, slot: int, update: SiteUpdate) -> None:
        """Count a slot's update in."""
        key = stack_key(update)
        if isinstance(update, LinearUpdate) and key is not None:
            given = ((name, getattr(update, name)) for name in FACTORS)
            factors = tuple((name, it.data_ptr(), it.stride()) for name, it in given if it is not None)
            self._facts[slot] = (key, factors)
            for factor in factors:
                self._holders.setdefault(factor, set()).add(slot)
            # Whoever had such a factor alone now has it in common.
            self._sort({slot, *(other for factor in factors for other in self._two(factor))})

    def remove(self, slot: int) -> None:
        """Count a slot's update out, if it was ever in, and free its lanes: no row uses it any more."""
        if slot not in self._facts:
            return
        _, factors = self._facts.pop(slot)
        for factor in factors:
            self._holders[factor].discard(slot)
        for kind in self._kinds.values():
            if kind.stack is not None:
                kind.stack.remove(slot)
        self._sort({slot, *(other for factor in factors for other in self._holders[factor])})
        for factor in factors:
            if not self._holders[factor]:
                del self._holders[factor]

    def drop_stacks(self) -> None:
        """Let go of every copy."""
        for kind in self._kinds.values():
            kind.stack = None

    def _two(self, factor: Factor) -> Iterable[int]:
        holders = self._holders[factor]
        return holders if len(holders) == 2 else ()

    def _sort(self, slots: Iterable[int]) -> None:
        """Give slots their kind anew. A copy in the stack of an old kind stays: a running batch may read it."""
        before = [self.of.pop(slot, None) for slot in slots]
        for slot in slots:
            if slot in self._facts:
                key, factors = self._facts[slot]
                common = tuple(factor for factor in factors if len(self._holders[factor]) > 1)
                kind = self._kinds.get((key, common))
                if kind is None:
                    kind = self._kinds[key, common] = Kind(frozenset(name for name, _, _ in common))
                kind.members += 1
                self.of[slot] = kind
        for left in before:
            if left is not None:
                left.members -= 1
        self._kinds = {identity: kind for identity, kind in self._kinds.items() if kind.members}
