"""What the plans of like sites have in common: worked out at the first of them, once for all."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from .bags import Bags
from .kinds import Kind
from .places import Places
from .reference import Where
from .stacked import BagPart, LanePart, StackedPart

Signature = tuple[int, ...]
NO_UPDATE, NO_KIND, MAX_LANES = -1, -2, 1 << 20


class Layout:
    """Where the slots of a site lie, as numbers that are the same at sites which compute those slots alike.

    Args:
        updates: the site's updates by slot.
        kinds: by slot, of those that can be stacked.
    """

    def __init__(self, updates: Container[int], kinds: Mapping[int, Kind]) -> None:
        self._updates = updates
        self._kinds = kinds
        self._numbers: dict[Kind, int] = {}
        self._known: dict[int, int] = {}

    @property
    def kinds(self) -> Sequence[Kind]:
        """The kinds that have been asked for, by number."""
        return tuple(self._numbers)

    def of(self, slots: Set[int]) -> Signature:
        """One number for each slot, of its kind and its lane."""
        known = self._known
        if not known.keys() >= slots:
            known.update({slot: self._number(slot) for slot in slots if slot not in known})
        return tuple(map(known.__getitem__, slots))

    def changed(self) -> None:
        """A slot has come or gone, or has another lane."""
        self._known.clear()
        self._numbers.clear()

    def _number(self, slot: int) -> int:
        kind = self._kinds.get(slot)
        if kind is None:
            return NO_KIND if slot in self._updates else NO_UPDATE
        lane = None if kind.stack is None else kind.stack.lanes.get(slot)
        return self._numbers.setdefault(kind, len(self._numbers)) * MAX_LANES + (0 if lane is None else lane + 1)


@dataclass(frozen=True)
class PartRecipe:
    """A stacked part without its stack: the number of its kind, and the rest as in ``BagPart`` and ``LanePart``."""

    kind: int
    slots: tuple[int, ...]
    tokens: Bags | Places
    lanes: slice | Tensor | None

    def part(self, kinds: Sequence[Kind]) -> StackedPart:
        """The part over the stack of a site's own kind."""
        stack = kinds[self.kind].stack
        assert stack is not None, "a layout that says where slots lie is of a site that has them there"
        if isinstance(self.tokens, Bags):
            return BagPart(stack, self.slots, self.tokens)
        assert self.lanes is not None
        return LanePart(stack, self.slots, self.tokens, self.lanes)


@dataclass(frozen=True)
class Recipe:
    """How like sites compute a composition: stacked parts, and entries of slots that go alone."""

    parts: tuple[PartRecipe, ...]
    alone: tuple[tuple[Where, int], ...]

    @classmethod
    def of(cls, parts: Sequence[StackedPart], alone: Sequence[tuple[Where, int]], kinds: Sequence[Kind]) -> Self:
        """What a site with these kinds has worked out; its parts lie over their stacks."""
        numbers = {id(kind.stack): number for number, kind in enumerate(kinds)}
        made = [PartRecipe(numbers[id(part.stack)], part.slots, part.tokens, part.lanes) for part in parts]
        return cls(tuple(made), tuple(alone))
