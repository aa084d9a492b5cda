"""The slot table against a plain model of it, step by step."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict

import pytest

from adapter_hub.errors import AdapterInUse, NoRoom
from adapter_hub.store import BASE_SLOT, SlotTable

SHARED = {"p": 20, "q": 7}


class Model:
    """What the table should do, one call after the other: lists, and no locks."""

    def __init__(self, max_slots, max_bytes):
        self.max_slots, self.max_bytes = max_slots, max_bytes
        self.slots = OrderedDict()  # by digest, the longest unused first
        self.reserved, self.pins = {}, set()

    def bytes(self, gone=(), number=None):
        staying = [slot for digest, slot in self.slots.items() if digest not in gone]
        shared = set().union(*(slot["shared"] for slot in staying))
        reserved = sum(size for other, size in self.reserved.items() if other != number)
        return sum(slot["size"] for slot in staying) + sum(SHARED[one] for one in shared) + reserved

    def may_go(self, digest, keep=()):
        flights = self.slots[digest]["flights"]
        return not any(flights.values()) and not flights.keys() & {*keep, *self.pins}

    def make_room(self, size, keep=(), number=None):
        gone = []
        for digest in [*self.slots, None]:
            slots = len(self.slots) - len(gone) + len(self.reserved.keys() - {number}) + 1
            is_over = self.max_slots and slots > self.max_slots
            if not is_over and not (self.max_bytes and self.bytes(gone, number) + size > self.max_bytes):
                break
            if digest is None:
                raise NoRoom("model")
            if self.may_go(digest, keep):
                gone.append(digest)
        if number is not None:
            self.reserved[number] = size
        return {slot["number"]: next(iter(slot["flights"])) for slot in map(self.slots.pop, gone)}

    def give_up(self, keep):
        for digest in self.slots:
            if self.may_go(digest, keep):
                slot = self.slots.pop(digest)
                return {slot["number"]: next(iter(slot["flights"]))}
        return {}

    def of(self, name):
        return next((digest for digest, slot in self.slots.items() if name in slot["flights"]), None)

    def retire(self, names):
        going = [name for name in names if self.of(name)]
        if any(self.slots[self.of(name)]["flights"][name] for name in going):
            raise AdapterInUse("model")
        cleared = []
        for name in going:
            digest = self.of(name)
            del self.slots[digest]["flights"][name]
            if not self.slots[digest]["flights"]:
                cleared.append(self.slots.pop(digest)["number"])
        return cleared


class Both:
    """Puts random steps to the table and to the model, and finds them the same after each."""

    def __init__(self, rng, max_slots, max_bytes):
        self.rng, self.model = rng, Model(max_slots, max_bytes)
        self.table = SlotTable(max_slots, max_bytes, self.model.pins.__contains__)
        self.loads, self.leases, self.done = [], [], Counter()
        self.names = [f"n{k}" for k in range(12)]

    def ask(self, call):
        """The same of both, their slots given back: what it gives, or None for an error that both have."""
        found = []
        for side in (self.model, self.table):
            try:
                found.append(call(side))
            except (NoRoom, AdapterInUse) as error:
                found.append(type(error))
        assert found[0] == found[1]
        self.done[found[0] if isinstance(found[0], type) else "done"] += 1
        if isinstance(found[0], type):
            return None
        for number in found[1]:
            self.table.give_back(number)
        return found[1]

    def begin(self):
        size, keep = self.rng.choice([1, 5, 9, 30, 200]), self.rng.sample(self.names, 2)
        shared = {one: SHARED[one] for one in SHARED if self.rng.random() < 0.3}
        whole = size + sum(shared.values())
        if self.ask(lambda side: side.make_room(whole, keep)) is not None:
            number = self.table.reserve(whole)
            self.model.reserved[number] = whole
            self.loads.append((number, self.rng.choice(self.names), size, shared))

    def end(self):
        number, name, size, shared = self.loads.pop(self.rng.randrange(len(self.loads)))
        digest = f"d{self.rng.randrange(9)}"
        if self.rng.random() < 0.3:
            size += self.rng.choice([-1, 3, 40])
            if self.ask(lambda side: side.make_room(size + sum(shared.values()), number=number)) is None:
                size = None
        if size is None or self.rng.random() < 0.2 or self.model.of(name) or digest in self.model.slots:
            if self.model.of(name) is None and digest in self.model.slots:
                assert self.table.share(name, digest)
                self.model.slots[digest]["flights"][name] = 0
            self.table.give_back(number)  # it failed, or somebody else was first
        else:
            self.table.publish(number, name, digest, size, shared)
            self.model.slots[digest] = {"number": number, "size": size, "shared": set(shared), "flights": {name: 0}}
        del self.model.reserved[number]

    def lease(self):
        known = [None, self.rng.choice(self.names), *self.table.names()]
        asked = [self.rng.choice(known) for _ in range(self.rng.randrange(1, 4))]
        slots, digests = self.table.lease(asked), [name and self.model.of(name) for name in asked]
        assert (slots is None) == any(name and digest is None for name, digest in zip(asked, digests, strict=True))
        if slots is not None:
            self.leases.append((asked, slots))
            for name, digest in zip(asked, digests, strict=True):
                if name:
                    self.model.slots[digest]["flights"][name] += 1
                    self.model.slots.move_to_end(digest)

    def release(self):
        asked, _ = self.leases.pop(self.rng.randrange(len(self.leases)))
        self.table.release(asked)
        for name in asked:
            if name:
                self.model.slots[self.model.of(name)]["flights"][name] -= 1

    def step(self):
        match self.rng.randrange(10):
            case 0 | 1 if len(self.loads) < 4:
                self.begin()
            case 2 | 3 if self.loads:
                self.end()
            case 4 | 5:
                self.lease()
            case 6 | 7 if self.leases:
                self.release()
            case 8:
                self.model.pins.symmetric_difference_update({self.rng.choice(self.names)})
                if len(self.model.pins) > 3:
                    self.model.pins.clear()
            case 9:
                names = self.rng.sample(self.names, 2)
                self.ask(self.rng.choice([lambda side: side.retire(names), lambda side: side.give_up(names)]))

    def check(self):
        table, model = self.table, self.model
        flights = {name: count for slot in model.slots.values() for name, count in slot["flights"].items()}
        assert table.in_flight() == flights
        numbers = [slot["number"] for slot in model.slots.values()]
        assert len({BASE_SLOT, *numbers, *model.reserved}) == 1 + len(numbers) + len(model.reserved), "one each"
        for slot in model.slots.values():
            assert {table.find(name) for name in slot["flights"]} == {slot["number"]}, "one content, one slot"
        for asked, held in self.leases:
            assert [table.find(name) if name else BASE_SLOT for name in asked] == list(held), "what is in use stays"
        assert table.bytes == model.bytes() <= (model.max_bytes or table.bytes)
        assert len(numbers) + len(model.reserved) <= (model.max_slots or 13)


@pytest.mark.parametrize("limits", [(0, 0), (4, 0), (0, 90), (5, 120)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_random_steps_do_what_the_model_does(seed, limits):
    both = Both(random.Random(seed), *limits)
    for _ in range(3000):
        both.step()
        both.check()
    assert both.done[AdapterInUse] > 10
    assert (both.done[NoRoom] > 100) == any(limits)
