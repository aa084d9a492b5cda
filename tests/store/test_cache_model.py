"""The cache against a plain model of it, step by step."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from contextlib import ExitStack

import pytest

from adapter_hub.errors import NoRoom

from .ledger import DEVICE, HOST, Block, Ledger, Lost, cache_of

SLACK = 3  # by which a first estimate of a size is too large


class Model:
    """What the cache should do, one call after the other: lists, and no locks."""

    def __init__(self, limits, failing):
        self.limits, self.failing = limits, failing
        self.order = [OrderedDict() for _ in limits]
        self.zombies = []
        self.events = [Counter() for _ in limits]

    def used(self, tier, firm_only=False):
        kept = [e for e in self.order[tier].values() if not firm_only or e["uses"] or e["pinned"]]
        return sum(e["size"] for e in kept) + (sum(e["size"] for e in self.zombies) if tier == 0 else 0)

    def take(self, tier, size, evict=True):
        while self.used(tier) + size > self.limits[tier]:
            if not evict or self.used(tier, firm_only=True) + size > self.limits[tier]:
                raise NoRoom("model")
            self.push_down(tier)

    def push_down(self, tier):
        key = next(k for k, e in self.order[tier].items() if not e["uses"] and not e["pinned"])
        entry = self.order[tier][key]
        self.events[tier]["evictions"] += 1
        moves = tier + 1 < len(self.limits) and not entry["expendable"]
        if moves:
            try:
                self.take(tier + 1, entry["size"])
            except NoRoom:
                moves = False
        moves = moves and tier + 1 not in self.failing
        del self.order[tier][key]
        if moves:
            self.order[tier + 1][key] = entry
            self.events[tier + 1]["loads"] += 1
        return entry["size"]

    def find(self, key):
        return next((t for t, order in enumerate(self.order) if key in order), None)

    def use(self, tier, key):
        entry = self.order[tier][key]
        entry["uses"] += 1
        self.events[tier]["hits"] += 1
        if not entry["expendable"]:
            self.order[tier].move_to_end(key)
        return entry

    def hold(self, key, size, expendable, fails):
        tier = self.find(key)
        if tier == 0:
            return self.use(0, key)
        self.events[0]["misses"] += 1
        if tier == 1:
            entry = self.use(1, key)
            try:
                self.take(0, entry["size"])
                if 0 in self.failing:
                    raise MemoryError(0)
            finally:
                entry["uses"] -= 1
            del self.order[1][key]
            entry = {**entry, "uses": 1}
        else:
            if len(self.limits) > 1:
                self.events[1]["misses"] += 1
            if size is not None:
                self.take(0, size + SLACK, evict=not expendable)
            if fails:
                raise Lost
            entry = {"size": size or 0, "uses": 1, "pinned": False, "expendable": expendable}
        self.events[0]["loads"] += 1
        if size is None and tier is None:
            self.zombies.append(entry)
        else:
            self.order[0][key] = entry
            if entry["expendable"]:
                self.order[0].move_to_end(key, last=False)
        return entry

    def release(self, entry):
        entry["uses"] -= 1
        if not entry["uses"] and any(z is entry for z in self.zombies):
            self.zombies = [z for z in self.zombies if z is not entry]

    def drop(self, key):
        tier = self.find(key)
        if tier is None:
            return False
        entry = self.order[tier].pop(key)
        if entry["uses"]:
            self.zombies.append(entry)
        return True

    def surrender(self, size):
        freed = 0
        while freed < size and any(not e["uses"] and not e["pinned"] for e in self.order[0].values()):
            freed += self.push_down(0)
        return freed


def _same(cache, model, held, ledger):
    for tier, order in enumerate(model.order):
        assert list(cache.listing(tier).items()) == [(key, entry["size"]) for key, entry in order.items()]
    for tier, report in enumerate(cache.report()):
        assert report.used == model.used(tier) <= report.limit
        assert report.entries == len(model.order[tier])
        for name in ("hits", "misses", "loads", "evictions"):
            assert getattr(report, name) == model.events[tier][name], (name, tier)
    for value, entry in held:
        assert (value.tier, value.size) == (0, entry["size"]), "what is in use was moved"
    assert ledger.blocks == sum(map(len, model.order)) + len(model.zombies), "memory that nobody counts"


@pytest.mark.parametrize("host", [HOST, 0])
@pytest.mark.parametrize("seed", range(4))
def test_random_steps_do_what_the_model_does(seed, host):
    rng, ledger = random.Random(seed), Ledger()
    cache = cache_of(ledger, host=host)
    model = Model([DEVICE, host] if host else [DEVICE], ledger.failing)
    held: list[tuple[Block, dict]] = []
    leases: list[tuple[ExitStack, dict]] = []

    def step():
        key = rng.choice("abcdefghij")
        match rng.randrange(9):
            case 0 | 1 | 2 | 3:
                size = rng.choice([None, *range(1, 45), 99, 101])
                expendable, fails = rng.random() < 0.2, rng.random() < 0.15

                def make(reserve):
                    if size is not None:
                        reserve(size + SLACK)
                        reserve(-SLACK)
                    if fails:
                        raise Lost
                    return Block(ledger, key, size or 0, 0)

                def both(hold):
                    try:
                        return hold(), None
                    except (NoRoom, Lost, MemoryError) as error:
                        return None, type(error)

                stack = ExitStack()
                entry, expected = both(lambda: model.hold(key, size, expendable, fails))
                value, raised = both(lambda: stack.enter_context(cache.holding(key, make, expendable=expendable)))
                assert raised is expected
                if value is not None:
                    leases.append((stack, entry))
                    held.append((value, entry))
            case 4 if len(leases) > rng.randrange(5):
                k = rng.randrange(len(leases))
                stack, entry = leases.pop(k)
                held.pop(k)
                model.release(entry)
                stack.close()
            case 5:
                assert cache.drop(key) is model.drop(key)
            case 6:
                pinned, tier = rng.random() < 0.3, model.find(key)
                if tier is not None:
                    model.order[tier][key]["pinned"] = pinned
                assert cache.pin(key, pinned) is (tier is not None)
            case 7:
                size = rng.randrange(60)
                assert cache.surrender(size) == model.surrender(size)
            case 8:
                ledger.failing.symmetric_difference_update({rng.choice([0, 1])} if rng.random() < 0.3 else ())

    for _ in range(3000):
        step()
        _same(cache, model, held, ledger)
