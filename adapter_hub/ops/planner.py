"""Which rows of a batch are computed together, and with which stacks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..updates import LinearUpdate, SiteUpdate
from .composition import Composition
from .kinds import Kind, Kinds
from .recipe import Layout, Recipe
from .reference import GroupPlan, Where, entries_of
from .stacked import BagPart, LanePart, StackedPart, StackedPlan
from .stacks import Stack, StackBudget
from .unpacked import unpacked

KEPT_PLANS = 4  # a prefill's and a decode's, for two threads
CALL_TOKENS = 64  # what one more call costs, in places of a product: measured on two CPU cores, order of magnitude
BAG_TOKENS = 8  # a slot's tokens up to which a product by token beats one by lane, there too


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
        self._kinds = Kinds()
        self._unsorted: set[int] = set()  # slots that no mixed batch has used yet: a load does not pay for that
        self._prepared: dict[int, SiteUpdate] = {}
        self._layout = Layout(updates, self._kinds.of)
        self._lacked_room = False
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
            for composition in [known for known in self._plans if slot in known.spans]:
                del self._plans[composition]
            self._prepared.pop(slot, None)
            self._layout.changed()
            self._kinds.remove(slot)
            self._unsorted.discard(slot)
            if slot in self.updates:
                self._unsorted.add(slot)

    def _prepare(self, slot: int) -> SiteUpdate:
        if slot not in self._prepared:
            self._prepared[slot] = unpacked(self.updates[slot], self.budget)
        return self._prepared[slot]

    def _make(self, composition: Composition, x: Tensor) -> StackedPlan | None:
        for slot in self._unsorted.intersection(composition.spans) if self._unsorted else ():
            self._kinds.add(slot, self.updates[slot])
            self._unsorted.discard(slot)
            self._layout.changed()
        slots = composition.spans.keys()
        recipe = composition.recipes.get((self._layout.of(slots), x.dtype, x.device))
        if recipe is not None:
            kinds = self._layout.kinds
            parts, alone = [wanted.part(kinds) for wanted in recipe.parts], recipe.alone
        else:
            self._lacked_room = False
            parts, alone = self._work_out(composition, x)
            if not self._lacked_room:  # others may have it, and need not let go of anything
                key = (self._layout.of(slots), x.dtype, x.device)
                composition.recipes[key] = Recipe.of(parts, alone, self._layout.kinds)
        if not parts and not alone:
            return None
        return StackedPlan(parts, GroupPlan([(where, self._prepare(slot)) for where, slot in alone]))

    def _work_out(self, composition: Composition, x: Tensor) -> tuple[list[StackedPart], tuple[tuple[Where, int], ...]]:
        """Stacked parts, and entries of the slots that go alone; the first of the sites that are laid out alike."""
        alone = [slot for slot in composition.spans if slot in self.updates]
        parts: list[StackedPart] = []
        stacked: set[int] = set()
        for kind, slots in self._by_kind(alone).items() if x.dtype != torch.float64 else ():
            part = self._part(composition, kind, slots, x) if len(slots) > 1 else None
            if part is not None:
                parts.append(part)
                stacked.update(part.slots)
        return parts, tuple((entries_of(composition, slot, x.device), slot) for slot in alone if slot not in stacked)

    def _by_kind(self, slots: Sequence[int]) -> dict[Kind, list[int]]:
        by_kind: dict[Kind, list[int]] = {}
        for slot in slots:
            kind = self._kinds.of.get(slot)
            if kind is not None:
                by_kind.setdefault(kind, []).append(slot)
        return by_kind

    def _part(self, composition: Composition, kind: Kind, slots: list[int], x: Tensor) -> StackedPart | None:
        """One stacked part for those slots of a kind that gain by it."""
        counts, device = composition.counts, x.device
        few = [slot for slot in slots if counts[slot] <= CALL_TOKENS] if device.type == "cpu" else []
        width = 0
        by_token = len(few) > 1 and sum(counts[slot] for slot in few) <= BAG_TOKENS * len(few)
        if not by_token:
            width = lane_width([counts[slot] for slot in slots])
            # Lanes of one width may leave out slots that are not worth calls of their own.
            by_token = len(few) > 1 and any(counts[slot] > width for slot in few)
        served = tuple(few if by_token else [slot for slot in slots if counts[slot] <= width])
        stack = self._stack(kind, served, x.dtype) if len(served) > 1 else None
        if stack is None:
            return None
        lanes = tuple([stack.lanes[slot] for slot in served])
        if by_token:
            return BagPart(stack, served, composition.bags(served, lanes, device))
        slot_of = dict(zip(lanes, served, strict=True))
        first, last = min(lanes), max(lanes)
        if last + 1 - first <= 1 + len(lanes) * 5 // 4:  # lanes in between are multiplied for nothing
            used = tuple(slot_of.get(lane) for lane in range(first, last + 1))
            return LanePart(stack, served, composition.places(used, width, device), slice(first, last + 1))
        with torch.inference_mode(False):
            chosen = torch.tensor(lanes, device=device)
        return LanePart(stack, served, composition.places(served, width, device), chosen)

    def _stack(self, kind: Kind, slots: Sequence[int], of_input: torch.dtype) -> Stack | None:
        """The kind's stack with all of these slots, or a new and larger one; None where it finds no room."""
        if kind.stack is not None and kind.stack.lanes.keys() >= set(slots):
            return kind.stack
        self._layout.changed()
        dtype = self.budget.dtype if self.budget.dtype == of_input else torch.float32
        wanted = {slot: update for slot in slots if isinstance(update := self.updates[slot], LinearUpdate)}
        if kind.stack is not None and kind.stack.add(wanted):
            return kind.stack
        earlier = [] if kind.stack is None else [slot for slot in kind.stack.lanes if self._kinds.of.get(slot) is kind]
        # A slot that no row of this batch uses may be on its way out: its update goes before ``changed`` is called.
        others = {slot: found for slot in earlier if isinstance(found := self.updates.get(slot), LinearUpdate)}
        everyone = wanted | others
        # Whoever comes to a second stack has a changing batch, and gets room for the next arrivals.
        room = max(1, len(everyone) // 4) if earlier else 0
        made = Stack.within(self.budget, everyone, len(everyone) + room, kind.shared, dtype)
        if made is None:
            # Before there is no room at all: what other batches use, here.
            self._plans.clear()
            self._kinds.drop_stacks()
            made = Stack.within(self.budget, wanted, len(wanted), kind.shared, dtype)
            self._lacked_room = True
        kind.stack = made
        return made


def lane_width(counts: Sequence[int]) -> int:
    """Places a lane when slots with these numbers of tokens are computed at once and longer ones alone.

    Every place costs its product, used or not; every slot that goes alone costs its calls.
    """

    def cost(width: int) -> int:
        longer = [count for count in counts if count > width]
        return width * (len(counts) - len(longer)) + sum(longer) + CALL_TOKENS * len(longer)

    return min(sorted(set(counts)), key=cost)
