"""The slot table against a plain model of it, through thousands of random steps; and what each step promises."""

from __future__ import annotations

import random

import pytest

from adapter_hub.errors import AdapterInUse
from adapter_hub.store import BASE_SLOT, SlotTable


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


@pytest.mark.parametrize("seed", range(5))
def test_random_steps_keep_the_invariants(seed):
    rng, table = random.Random(seed), SlotTable()
    content: dict[str, str] = {}
    leases: list[tuple[list, tuple]] = []
    names = [f"n{k}" for k in range(12)]
    for _ in range(2000):
        match rng.randrange(4):
            case 0:
                name = rng.choice(names)
                if name not in content:
                    content[name] = f"d{rng.randrange(6)}"
                    _install(table, name, content[name])
            case 1:
                asked = [rng.choice([None, *names]) for _ in range(rng.randrange(1, 5))]
                slots = table.lease(asked)
                assert (slots is None) == any(name is not None and name not in content for name in asked)
                if slots is not None:
                    leases.append((asked, slots))
            case 2 if leases:
                table.release(leases.pop(rng.randrange(len(leases)))[0])
            case 3 if content:
                going = rng.sample(sorted(content), rng.randrange(1, len(content) + 1))
                refused = any(name in asked for asked, _ in leases for name in going)
                if refused:
                    with pytest.raises(AdapterInUse):
                        table.retire(going)
                else:
                    for slot in table.retire(going):
                        table.give_back(slot)
                    for name in going:
                        del content[name]
        _check(table, content, leases)


def _check(table, content, leases):
    slots = {name: table.find(name) for name in content}
    assert set(table.names()) == set(content)
    assert BASE_SLOT not in slots.values()
    by_digest = {}
    for name, slot in slots.items():
        assert by_digest.setdefault(content[name], slot) == slot, "one content, one slot"
    assert len(set(by_digest.values())) == len(by_digest), "one slot, one content"
    rows = [name for asked, _ in leases for name in asked]
    assert table.in_flight() == {name: rows.count(name) for name in content}
    for asked, held in leases:
        assert [slots.get(name, BASE_SLOT) for name in asked] == list(held), "what is in use stays where it was"
