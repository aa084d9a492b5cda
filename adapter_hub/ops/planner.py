"""Which rows of a batch are computed together, and with which stacks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..updates import LinearUpdate, SiteUpdate
from .composition import Composition
from .reference import GroupPlan, entries_of
from .stacked import StackedPart, StackedPlan
from .stacks import Stack, StackBudget, StackKey, shared_factors, stack_key

KEPT_PLANS = 4  # a prefill's and a decode's, for two threads
CALL_TOKENS = 64  # what one more call costs, in places of a product: measured on two CPU cores, order of magnitude


class StackingPlanner:
    """Plans with stacks where several adapters of a batch have the same parts here.

    A plan is kept by composition, for as long as the site's updates stay. Its stacks serve other compositions
    of the same adapters too, and take further adapters into lanes that no plan has used; so what a changing
    batch copies is the adapters that are new to it.

    Args:
        updates: the site's updates by slot.
        budget: what stacks may take; without room, rows go group by group.
    """

    def __init__(self, updates: Mapping[int, SiteUpdate], budget: StackBudget) -> None:
        self.updates = updates
        self.budget = budget
        self._generation = 0
        self._plans: OrderedDict[Composition, tuple[int, StackedPlan | None]] = OrderedDict()
        self._lock = threading.Lock()

    def plan(self, composition: Composition, x: Tensor) -> StackedPlan | None:
        """See ``Planner``."""
        kept = self._plans.get(composition)
        if kept is not None and kept[0] == self._generation:
            return kept[1]
        with self._lock:
            plan = self._make(composition, x)
            self._plans[composition] = (self._generation, plan)
            self._plans.move_to_end(composition)
            while len(self._plans) > KEPT_PLANS:
                self._plans.popitem(last=False)
        return plan

    def changed(self, slot: int, gone: SiteUpdate | None = None) -> None:
        """See ``Planner``. Stacks without the update that is gone are used again."""
        with self._lock:
            self._generation += 1
            for composition, (_, plan) in list(self._plans.items()):
                if plan is None or (gone is not None and plan.uses(gone)):
                    del self._plans[composition]

    def _make(self, composition: Composition, x: Tensor) -> StackedPlan | None:
        present = {slot: self.updates[slot] for slot in composition.spans if slot in self.updates}
        if not present:
            return None
        parts: list[StackedPart] = []
        alone = dict(present)
        if x.dtype != torch.float64:
            for key, alike in _alike(present):
                part = self._part(composition, key, alike, x.device)
                if part is not None:
                    parts.append(part)
                    for slot in _served(part, alike):
                        del alone[slot]
        tokens = max(1, composition.num_tokens // x.shape[0])
        groups = [(entries_of(composition, slot, tokens, x.device), update) for slot, update in alone.items()]
        return StackedPlan(parts, GroupPlan(groups))

    def _part(
        self, composition: Composition, key: StackKey, alike: dict[int, LinearUpdate], device: torch.device
    ) -> StackedPart | None:
        """One stacked part for the slots of a key that gain by it."""
        width = lane_width([composition.counts[slot] for slot in alike])
        short = {slot: update for slot, update in alike.items() if composition.counts[slot] <= width}
        if len(short) < 2:
            return None
        stack = self._stack(key, list(short.values()))
        if stack is None:
            return None
        slot_of = {stack.lanes[update]: slot for slot, update in short.items()}
        lanes = slice(min(slot_of), max(slot_of) + 1)
        places = composition.places(tuple(slot_of.get(lane) for lane in range(lanes.start, lanes.stop)), width, device)
        return StackedPart(stack, lanes, places)

    def _stack(self, key: StackKey, updates: Sequence[LinearUpdate]) -> Stack | None:
        """A kept stack with all of these updates, or with room for those it lacks, or a new one."""
        known = [stack for stack in self._stacks() if stack_key(next(iter(stack.lanes))) == key]
        found = next((stack for stack in known if _extend(stack, updates)), None)
        if found is not None:
            return found
        shared = shared_factors(updates)
        # Whoever comes to a second stack has a changing batch, and gets room for the next arrivals.
        capacity = len(updates) + (max(1, len(updates) // 4) if known else 0)
        made = Stack.within(self.budget, updates, capacity, shared)
        if made is None and known:
            known.clear()
            self._plans.clear()
            made = Stack.within(self.budget, updates, len(updates), shared)
        return made

    def _stacks(self) -> Iterable[Stack]:
        for _, plan in reversed(self._plans.values()):
            yield from (part.stack for part in plan.parts) if plan is not None else ()


def lane_width(counts: Sequence[int]) -> int:
    """Places a lane when slots with these numbers of tokens are computed at once and longer ones alone.

    Every place costs its product, used or not; every slot that goes alone costs its calls.
    """

    def cost(width: int) -> int:
        longer = [count for count in counts if count > width]
        return width * (len(counts) - len(longer)) + sum(longer) + CALL_TOKENS * len(longer)

    return min(sorted(set(counts)), key=cost)


def _alike(present: Mapping[int, SiteUpdate]) -> Iterable[tuple[StackKey, dict[int, LinearUpdate]]]:
    """Updates of one key, and within a key those that have a factor in common."""
    by_key: dict[tuple[StackKey, int], dict[int, LinearUpdate]] = {}
    of_factor: dict[int, int] = {}
    linear = [(slot, update) for slot, update in present.items() if isinstance(update, LinearUpdate)]
    for _, update in linear:
        if update.A is not None:
            of_factor[update.A.data_ptr()] = of_factor.get(update.A.data_ptr(), 0) + 1
    for slot, update in linear:
        key = stack_key(update)
        if key is not None:
            factor = update.A.data_ptr() if update.A is not None else 0
            factor = factor if of_factor.get(factor, 0) > 1 else 0
            by_key.setdefault((key, factor), {})[slot] = update
    for (key, _), alike in by_key.items():
        if len(alike) > 1:
            yield key, alike


def _served(part: StackedPart, alike: Mapping[int, LinearUpdate]) -> list[int]:
    return [slot for slot in alike if slot in part.places.slots]


def _extend(stack: Stack, updates: Sequence[LinearUpdate]) -> bool:
    """Make a kept stack serve these updates, if it has room and they lie close together in it."""
    missing = [update for update in updates if update not in stack.lanes]
    if not all(stack.takes(update) for update in missing) or len(stack.lanes) + len(missing) > stack.capacity:
        return False
    lanes = [stack.lanes[update] for update in updates if update in stack.lanes]
    lanes += range(len(stack.lanes), len(stack.lanes) + len(missing))
    # Lanes in between are multiplied for nothing.
    if max(lanes) + 1 - min(lanes) > 1 + len(updates) * 5 // 4:
        return False
    for update in missing:
        stack.add(update)
    return True
