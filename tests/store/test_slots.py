"""The slot table: what each step promises; from threads; under Zipf."""

from __future__ import annotations

import random
import threading
from contextlib import suppress

import pytest

from adapter_hub.errors import AdapterInUse, NoRoom
from adapter_hub.store import BASE_SLOT, ByteCache, SlotTable, Tier


def _install(table: SlotTable, name: str, digest: str) -> int:
    if table.share(name, digest):
        return table.find(name)
    slot = table.reserve()
    table.publish(slot, name, digest)
    return slot


def test_a_reserved_slot_is_not_seen_before_it_is_published():
    table = SlotTable()
    slot = table.reserve()
    assert table.names() == []
    assert table.lease(["a"]) is None
    table.publish(slot, "a", "d")
    assert table.lease(["a", None]) == (slot, BASE_SLOT)


def test_retiring_is_all_or_nothing():
    table = SlotTable()
    a, b = _install(table, "a", "1"), _install(table, "b", "2")
    table.lease(["b"])
    with pytest.raises(AdapterInUse, match="'b' serves 1 rows"):
        table.retire(["a", "b"])
    assert (table.find("a"), table.find("b")) == (a, b)
    table.release(["b"])
    assert sorted(table.retire(["a", "b", "unknown"])) == sorted([a, b])


def test_a_shared_slot_stays_while_one_name_stands():
    table = SlotTable()
    slot = _install(table, "a", "same")
    assert _install(table, "b", "same") == slot
    table.lease(["b"])
    assert table.retire(["a"]) == []
    with pytest.raises(AdapterInUse):
        table.retire(["b"])
    table.release(["b"])
    assert table.retire(["b"]) == [slot]


def test_a_slot_that_turns_out_larger_asks_again():
    table = SlotTable(max_bytes=10)
    table.publish(table.reserve(4), "a", "1", 4)
    number = table.reserve(3)
    with pytest.raises(NoRoom, match="no room for an adapter of 11 bytes: 1 adapters are resident, 0 of them in use"):
        table.make_room(11, number=number)
    assert (table.names(), table.bytes) == (["a"], 7), "nothing has changed"
    assert table.make_room(7, number=number) == {1: "a"}
    assert table.bytes == 7


def test_what_is_shared_counts_once_and_until_the_last_has_gone():
    table = SlotTable(max_bytes=50)
    for name in "abc":
        assert table.make_room(22) == {}
        table.publish(table.reserve(22), name, name, 2, {"projection": 20})
    assert table.bytes == 26
    assert table.make_room(31) == {1: "a", 2: "b", 3: "c"}, "two would have left the projection where it was"
    assert table.bytes == 0


def test_threads_never_find_another_adapter_in_the_slot_that_they_hold():
    """Who brings adapters holds one lock for that, as the hub does; who uses them holds none."""
    table, changing, memory, failures = SlotTable(max_bytes=60), threading.RLock(), {}, []

    def bring(name, rng):
        with changing:
            if table.find(name) is not None:
                return
            for slot in table.make_room(5 + int(name)):
                del memory[slot]
                table.give_back(slot)
            number = table.reserve(5 + int(name))
            if rng.random() < 0.1:
                table.give_back(number)
                return
            memory[number] = name
            table.publish(number, name, f"digest of {name}", 5 + int(name))
            assert table.bytes <= 60

    def use(seed):
        rng = random.Random(seed)
        try:
            for _ in range(2000):
                names = [str(rng.randrange(12)) for _ in range(rng.randrange(1, 3))]
                slots = table.lease(names)
                if slots is None:
                    with suppress(NoRoom):
                        bring(names[0], rng)
                    continue
                assert [memory[slot] for slot in slots] == names
                table.release(names)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert not any(table.in_flight().values())
    assert {table.find(name): name for name in table.names()} == memory


def test_a_hundred_thousand_uses_of_ten_thousand_adapters_under_zipf():
    """Slots above a host tier, as on a CPU: what leaves one goes to the other, and nothing is held twice."""
    rng, count = random.Random(7), 10_000
    table, host = SlotTable(max_bytes=800), ByteCache(Tier("host", 3000, "host_bytes", lambda value: value))
    sizes, hits, reads = [rng.randrange(1, 40) for _ in range(count)], 0, 0

    def kept(key):
        return lambda reserve: (reserve(sizes[int(key)]), key)[1]

    for step, k in enumerate(rng.choices(range(count), [1 / (k + 1) for k in range(count)], k=100_000)):
        key = str(k)
        if table.lease([key]) is None:
            reads += host.tier_of(key) is None
            host.drop(key)
            for slot, gone in table.make_room(sizes[k]).items():
                table.give_back(slot)
                with host.holding(gone, kept(gone)):
                    pass
            table.publish(table.reserve(sizes[k]), key, key, sizes[k])
            table.lease([key])
        else:
            hits += 1
        table.release([key])
        if step % 1000 == 0:
            resident, waiting = table.names(), host.listing(0)
            assert not waiting.keys() & set(resident)
            assert table.bytes == sum(sizes[int(name)] for name in resident) <= 800
            assert host.report()[0].used == sum(waiting.values()) <= 3000
    assert hits > 25_000, "the hot ones stay"
    assert 20_000 < reads < 100_000 - hits, "what left its slot came back from the host"
