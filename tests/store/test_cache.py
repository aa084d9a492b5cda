"""The cache against a plain model of it, step by step; from many threads; and under Zipf."""

from __future__ import annotations

import random
import threading
from collections import Counter, OrderedDict
from contextlib import ExitStack

import pytest

from adapter_hub.errors import NoRoom
from adapter_hub.store import ByteCache, Tier

from ..until import SECONDS, until

DEVICE, HOST = 100, 60
SLACK = 3  # by which a first estimate of a size is too large


class Ledger:
    """Counts blocks and their bytes by tier, brings them from one to the other, or fails to when told so."""

    def __init__(self):
        self.alive, self.peak, self.blocks = Counter(), Counter(), 0
        self.failing = set()
        self.lock = threading.RLock()

    def count(self, tier, size, blocks):
        with self.lock:
            self.alive[tier] += size
            self.peak[tier] = max(self.peak[tier], self.alive[tier])
            self.blocks += blocks

    def to(self, tier):
        def bring(block):
            if tier in self.failing:
                raise MemoryError(tier)
            return Block(self, block.key, block.size, tier)

        return bring

    def make(self, key, size):
        def make(reserve):
            reserve(size)
            return Block(self, key, size, 0)

        return make


class Block:
    """A value that knows where it lies."""

    def __init__(self, ledger, key, size, tier):
        self.ledger, self.key, self.size, self.tier = ledger, key, size, tier
        ledger.count(tier, size, 1)

    def __del__(self):
        self.ledger.count(self.tier, -self.size, -1)


def _cache(ledger, device=DEVICE, host=HOST):
    tiers = [Tier("device", device, "merged_bytes", ledger.to(0))]
    return ByteCache(*tiers, *([Tier("host", host, "host_bytes", ledger.to(1))] if host else []))


class Lost(Exception):
    pass


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
    cache = _cache(ledger, host=host)
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


def test_one_of_many_makes_and_all_get_it():
    ledger = Ledger()
    cache, started, go = _cache(ledger), threading.Event(), threading.Event()
    made, seen = [], []

    def make(reserve):
        reserve(10)
        started.set()
        go.wait(SECONDS)
        made.append(Block(ledger, "a", 10, 0))
        return made[-1]

    def ask():
        with cache.holding("a", make) as value:
            seen.append(value)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert started.wait(SECONDS)
    until(lambda: cache._makings["a"].waiting == 7)
    assert cache.lease("a") is None, "nobody sees what is not made yet"
    go.set()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert seen == made * 8
    assert cache.surrender(1) == 10, "nobody holds it any more"


def test_a_failed_making_is_told_to_all_and_leaves_nothing():
    ledger = Ledger()
    cache, go, told = _cache(ledger), threading.Event(), []

    def make(reserve):
        reserve(90)
        go.wait(SECONDS)
        raise Lost("while it was made")

    def ask():
        with pytest.raises(Lost, match="while it was made"), cache.holding("a", make):
            pass
        told.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: "a" in cache._makings and cache._makings["a"].waiting == 3)
    go.set()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    assert cache.report()[0].used == 0
    with cache.holding("a", ledger.make("a", 100)) as value:
        assert value.size == 100


def test_what_is_dropped_while_it_is_made_is_handed_out_and_not_kept():
    ledger = Ledger()
    cache = _cache(ledger)

    def make(reserve):
        reserve(30)
        assert cache.drop("a")
        return Block(ledger, "a", 30, 0)

    with cache.holding("a", make):
        assert cache.report()[0].used == 30
        assert cache.lease("a") is None
    assert cache.report()[0].used == 0


def test_what_is_dropped_or_taken_while_it_is_copied_down():
    ledger = Ledger()
    cache, seen, meanwhile = _cache(ledger), [], []

    def down(block):
        seen.append(meanwhile.pop()())
        return Block(ledger, block.key, block.size, 1)

    cache.tiers = (cache.tiers[0], Tier("host", HOST, "host_bytes", down))
    for attempt, used in ((lambda: cache.drop("a"), (0, 0)), (lambda: cache.lease("a"), (40, 0))):
        meanwhile.append(attempt)
        with cache.holding("a", ledger.make("a", 40)):
            pass
        cache.surrender(40)
        assert tuple(report.used for report in cache.report()) == used
    assert seen[1].value.tier == 0
    cache.release(seen[1])


def test_no_room_has_the_numbers_and_takes_nothing_away():
    ledger = Ledger()
    cache = _cache(ledger)
    for key, size in (("a", 40), ("b", 30)):
        with cache.holding(key, ledger.make(key, size)):
            pass
    cache.pin("a")
    said = r"61 bytes find no room in the tier 'device': of its 100 bytes 70 are taken, 40 of them.*Raise merged_bytes"
    with pytest.raises(NoRoom, match=said), cache.holding("c", ledger.make("c", 61)):
        pass
    assert list(cache.listing(0)) == ["a", "b"]
    with pytest.raises(NoRoom), cache.holding("c", ledger.make("c", 31), expendable=True):
        pass
    assert list(cache.listing(0)) == ["a", "b"], "an expendable value takes nobody's place"


def test_threads_keep_every_tier_within_its_limit():
    ledger, failures = Ledger(), []
    cache = _cache(ledger)
    stop = threading.Event()

    def use(seed):
        rng = random.Random(seed)
        try:
            for _ in range(1500):
                one(rng)
        except BaseException as error:
            failures.append(error)
            raise

    def one(rng):
        key = rng.randrange(12)
        match rng.randrange(8):
            case 0:
                cache.drop(key)
            case 1:
                cache.surrender(rng.randrange(50))
            case 2:
                cache.pin(key, rng.random() < 0.1)
            case 3:
                entry = cache.lease(key)
                if entry is not None:
                    assert (entry.value.key, entry.value.tier) == (key, 0)
                    cache.release(entry)
            case _:
                hold(key, rng)

    def hold(key, rng):
        def make(reserve):
            reserve(5 + key)
            if rng.random() < 0.1:
                raise Lost
            return Block(ledger, key, 5 + key, 0)

        try:
            with cache.holding(key, make, expendable=key == 0) as value:
                assert (value.key, value.tier) == (key, 0)
        except (NoRoom, Lost):
            pass

    def watch():
        while not stop.is_set():
            if any(report.used > report.limit for report in cache.report()):
                failures.append("over the limit")

    watcher = threading.Thread(target=watch)
    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(6)]
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    watcher.join()
    assert failures == []
    assert ledger.peak[0] <= DEVICE
    assert ledger.peak[1] <= HOST
    for tier, report in enumerate(cache.report()):
        assert report.used == sum(cache.listing(tier).values()) == ledger.alive[tier]
    for key in range(12):
        cache.drop(key)
    assert [report.used for report in cache.report()] == [0, 0]
    assert cache._firm == [0, 0]


def test_a_hundred_thousand_uses_of_ten_thousand_keys_under_zipf():
    rng, keys = random.Random(7), 10_000
    ledger = Ledger()
    cache = _cache(ledger, 3000, 9000)
    sizes = [rng.randrange(1, 40) for _ in range(keys)]
    drawn = rng.choices(range(keys), [1 / (k + 1) for k in range(keys)], k=100_000)
    for step, key in enumerate(drawn):
        with cache.holding(key, ledger.make(key, sizes[key])) as value:
            assert (value.key, value.tier) == (key, 0)
        if step % 1000 == 0:
            for tier, report in enumerate(cache.report()):
                assert report.used == sum(cache.listing(tier).values()) == ledger.alive[tier] <= report.limit
    device, host = cache.report()
    assert device.hits + device.misses == 100_000
    assert device.misses == device.loads == host.hits + host.misses
    assert device.hits > 40_000, "the hot keys stay"
    assert ledger.peak[0] <= 3000
