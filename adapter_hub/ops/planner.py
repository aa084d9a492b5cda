"""Which rows of a batch are computed together, and with which stacks."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..updates import LinearUpdate, SiteUpdate
from .composition import Composition
from .reference import GroupPlan, entries_of
from .stacked import BagPart, LanePart, StackedPart, StackedPlan
from .stacks import FACTORS, Stack, StackBudget, StackKey, stack_key
from .unpacked import unpacked

KEPT_PLANS = 4  # a prefill's and a decode's, for two threads
CALL_TOKENS = 64  # what one more call costs, in places of a product: measured on two CPU cores, order of magnitude
BAG_TOKENS = 4  # a slot's tokens up to which a product by token beats one by lane, there too

Factor = tuple[str, int, tuple[int, ...]]  # A or B, its address and strides
# What updates of one stack have in common: parts, shapes and types, and the very factors that others have too.
Kind = tuple[StackKey, tuple[Factor, ...]]


class StackingPlanner:
    """Plans with stacks where several adapters of a batch have the same parts here.

    A plan is kept by composition, until a slot of it changes. Stacks stay: a batch copies those adapters that no
    batch before it has used, and the lane of one that is gone takes the next to come.

    Args:
        updates: the site's updates by slot.
        budget: what stacks may take; without room, rows go group by group.
    """

    def __init__(self, updates: Mapping[int, SiteUpdate], budget: StackBudget) -> None:
        self.updates = updates
        self.budget = budget
        self._plans: OrderedDict[Composition, StackedPlan | None] = OrderedDict()
        self._stacks: dict[Kind, Stack] = {}
        self._keys: dict[int, StackKey] = {}
        self._uses = Counter[Factor]()
        self._prepared: dict[int, SiteUpdate] = {}
        self._lock = threading.Lock()

    def plan(self, composition: Composition, x: Tensor) -> StackedPlan | None:
        """See ``Planner``."""
        try:
            return self._plans[composition]
        except KeyError:
            with self._lock:
                plan = self._plans[composition] = self._make(composition, x)
                while len(self._plans) > KEPT_PLANS:
                    self._plans.popitem(last=False)
            return plan

    def prepared(self, slot: int) -> SiteUpdate:
        """See ``Planner``."""
        found = self._prepared.get(slot)
        if found is None:
            with self._lock:
                found = self._prepare(slot)
        return found

    def changed(self, slot: int, gone: SiteUpdate | None = None) -> None:
        """See ``Planner``."""
        with self._lock:
            self._prepared.pop(slot, None)
            for composition in [known for known in self._plans if slot in known.spans]:
                del self._plans[composition]
            if isinstance(gone, LinearUpdate) and self._keys.pop(slot, None) is not None:
                self._uses -= Counter(_factors(gone))
                for kind, stack in list(self._stacks.items()):
                    stack.remove(gone)
                    if not stack.lanes:
                        del self._stacks[kind]
            update = self.updates.get(slot)
            key = None if update is None else stack_key(update)
            if isinstance(update, LinearUpdate) and key is not None:
                self._keys[slot] = key
                self._uses += Counter(_factors(update))

    def _prepare(self, slot: int) -> SiteUpdate:
        if slot not in self._prepared:
            self._prepared[slot] = unpacked(self.updates[slot], self.budget)
        return self._prepared[slot]

    def _make(self, composition: Composition, x: Tensor) -> StackedPlan | None:
        present = {slot: self.updates[slot] for slot in composition.spans if slot in self.updates}
        if not present:
            return None
        parts: list[StackedPart] = []
        for kind, alike in self._alike(present):
            part = self._part(composition, kind, alike, x.device) if x.dtype != torch.float64 else None
            if part is not None:
                parts.append(part)
                for slot in part.slots:
                    del present[slot]
        tokens = max(1, composition.num_tokens // x.shape[0])
        groups = [(entries_of(composition, slot, tokens, x.device), self._prepare(slot)) for slot in present]
        return StackedPlan(parts, GroupPlan(groups))

    def _alike(self, present: Mapping[int, SiteUpdate]) -> Iterable[tuple[Kind, dict[int, LinearUpdate]]]:
        """Updates that can lie in one stack, where there are several."""
        by_kind: dict[Kind, dict[int, LinearUpdate]] = {}
        for slot, update in present.items():
            if isinstance(update, LinearUpdate) and slot in self._keys:
                shared = tuple(factor for factor in _factors(update) if self._uses[factor] > 1)
                by_kind.setdefault((self._keys[slot], shared), {})[slot] = update
        return [(kind, alike) for kind, alike in by_kind.items() if len(alike) > 1]

    def _part(
        self, composition: Composition, kind: Kind, alike: dict[int, LinearUpdate], device: torch.device
    ) -> StackedPart | None:
        """One stacked part for those slots of a kind that gain by it."""
        counts = {slot: composition.counts[slot] for slot in alike}
        few = [slot for slot, count in counts.items() if count <= CALL_TOKENS]
        by_token = device.type == "cpu" and sum(counts[slot] for slot in few) <= BAG_TOKENS * len(few)
        if not by_token:
            width = lane_width(list(counts.values()))
            few = [slot for slot, count in counts.items() if count <= width]
        stack = self._stack(kind, [alike[slot] for slot in few]) if len(few) > 1 else None
        if stack is None:
            return None
        lanes = sorted((stack.lanes[alike[slot]], slot) for slot in few)
        if by_token:
            return BagPart(stack, frozenset(few), composition.bags(tuple(lanes), device))
        first, last = lanes[0][0], lanes[-1][0]
        if last + 1 - first <= 1 + len(lanes) * 5 // 4:  # lanes in between are multiplied for nothing
            slot_of = dict(lanes)
            used = tuple(slot_of.get(lane) for lane in range(first, last + 1))
            return LanePart(stack, frozenset(few), composition.places(used, width, device), slice(first, last + 1))
        with torch.inference_mode(False):
            chosen = torch.tensor([lane for lane, _ in lanes], device=device)
        places = composition.places(tuple(slot for _, slot in lanes), width, device)
        return LanePart(stack, frozenset(few), places, chosen)

    def _stack(self, kind: Kind, updates: Sequence[LinearUpdate]) -> Stack | None:
        """The kind's stack with all of these updates, or a new and larger one; None where it finds no room."""
        known = self._stacks.get(kind)
        if known is not None and known.add(updates):
            return known
        shared = frozenset(name for name, _, _ in kind[1])
        union = list(dict.fromkeys([*updates, *(known.lanes if known is not None else ())]))
        # Whoever comes to a second stack has a changing batch, and gets room for the next arrivals.
        room = 0 if known is None else max(1, len(union) // 4)
        made = Stack.within(self.budget, union, len(union) + room, shared)
        if known is not None:
            self._plans.clear()  # nobody else may keep the old one, and with it adapters that go
        if made is None:
            # Before there is no room at all: what other batches use, here.
            del known
            self._plans.clear()
            self._stacks.clear()
            made = Stack.within(self.budget, updates, len(updates), shared)
        if made is not None:
            self._stacks[kind] = made
        return made


def lane_width(counts: Sequence[int]) -> int:
    """Places a lane when slots with these numbers of tokens are computed at once and longer ones alone.

    Every place costs its product, used or not; every slot that goes alone costs its calls.
    """

    def cost(width: int) -> int:
        longer = [count for count in counts if count > width]
        return width * (len(counts) - len(longer)) + sum(longer) + CALL_TOKENS * len(longer)

    return min(sorted(set(counts)), key=cost)


def _factors(update: LinearUpdate) -> list[Factor]:
    given = ((name, getattr(update, name)) for name in FACTORS)
    return [(name, factor.data_ptr(), factor.stride()) for name, factor in given if factor is not None]
