"""The cache: one makes for many, what happens meanwhile, no room; from many threads; and under Zipf."""

from __future__ import annotations

import random
import threading

import pytest

from adapter_hub.errors import NoRoom
from adapter_hub.store import Tier

from ..until import SECONDS, until
from .ledger import DEVICE, HOST, Block, Ledger, Lost, cache_of


def test_one_of_many_makes_and_all_get_it():
    ledger = Ledger()
    cache, started, go = cache_of(ledger), threading.Event(), threading.Event()
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
    cache, go, told = cache_of(ledger), threading.Event(), []

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
    cache = cache_of(ledger)

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
    cache, seen, meanwhile = cache_of(ledger), [], []

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
    cache = cache_of(ledger)
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
    cache = cache_of(ledger)
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
                del value  # or it would be alive here for a moment after it was given back, and be counted
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
    cache = cache_of(ledger, 3000, 9000)
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
