"""The scheduler of adapters, in plain Python: thousands of random steps, an invariant check after each."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from adapter_hub.engine.schedule import AdapterScheduler, Ticket
from adapter_hub.errors import NoRoom
from adapter_hub.store import SlotTable

PATIENCE = 8
LOAD_STEPS = 3


@dataclass
class Room:
    """The real table of slots, with loads that take a few steps."""

    table: SlotTable
    size: int = 1
    pending: dict[str, tuple[int, int]] = field(default_factory=dict)  # slot, and steps left
    broken: frozenset[str] = frozenset()
    evictions: int = 0

    def is_resident(self, key):
        return self.table.find(key) is not None

    def reserve(self, key, keep):
        assert key not in self.pending
        try:
            gone = self.table.make_room(self.size, keep)
        except NoRoom:
            return False
        for slot in gone:
            self.table.give_back(slot)
            self.evictions += 1
        self.pending[key] = (self.table.reserve(self.size), LOAD_STEPS)
        return True

    def can_drain(self, key):
        return not self.table.is_pinned(key)

    def tick(self, scheduler):
        failed = []
        for key, (slot, left) in list(self.pending.items()):
            if left:
                self.pending[key] = (slot, left - 1)
                continue
            del self.pending[key]
            if key in self.broken:
                self.table.give_back(slot)
                failed += scheduler.failed(key)
            else:
                self.table.publish(slot, key, f"digest of {key}", self.size)
                scheduler.loaded(key)
        return failed


class Simulation:
    """An engine without a model: each request takes its steps and leaves."""

    def __init__(self, slots, rows, **options):
        self.room = Room(SlotTable(max_slots=slots), **options)
        self.scheduler = AdapterScheduler(self.room, patience=PATIENCE)
        self.slots, self.rows = slots, rows
        self.running: dict[str, tuple[Ticket, int]] = {}
        self.arrived: dict[str, int] = {}
        self.waits: dict[str, int] = {}
        self.failed: list[str] = []
        self.order: list[str] = []
        self.count = 0

    def add(self, key, steps):
        self.count += 1
        id = f"{key}-{self.count}"
        self.scheduler.add(Ticket(id, key, steps))
        self.arrived[id] = self.scheduler.step
        return id

    def step(self):
        self.failed += [ticket.id for ticket in self.room.tick(self.scheduler)]
        entering = self.scheduler.enter(self.rows - len(self.running))
        for ticket in entering.admitted:
            slots = self.room.table.lease([ticket.key])
            assert slots is not None, "admitted without its adapter"
            self.running[ticket.id] = (ticket, ticket.steps)
            self.waits[ticket.id] = self.scheduler.step - self.arrived[ticket.id]
            self.order.append(ticket.id)
        for id, (ticket, left) in list(self.running.items()):
            self.running[id] = (ticket, left - 1)
            if left == 1:
                self.leave(id)
        self.check()
        return entering

    def leave(self, id):
        ticket, _ = self.running.pop(id)
        self.room.table.release([ticket.key])
        self.scheduler.leave(id)

    def check(self):
        assert len(self.running) <= self.rows
        assert set(self.running) == set(self.scheduler.active)
        resident = set(self.room.table.names())
        assert len(resident) + len(self.room.pending) <= self.slots
        assert {ticket.key for ticket, _ in self.running.values()} - {None} <= resident
        assert set(self.room.pending) == self.scheduler.loading
        in_flight = dict.fromkeys(resident, 0)
        for ticket, _ in self.running.values():
            if ticket.key is not None:
                in_flight[ticket.key] += 1
        assert self.room.table.in_flight() == in_flight

    def drain(self, limit=5000):
        for _ in range(limit):
            if not self.running and not self.scheduler.num_waiting:
                return
            self.step()
        raise AssertionError(f"{self.scheduler.num_waiting} requests never entered")


def test_a_cold_adapter_behind_a_hot_one_gets_the_only_slot():
    """The queue A, B, A, A, ...: without draining, A would keep its slot for ever."""
    run = Simulation(slots=1, rows=2)
    run.add("a", 4)
    cold = run.add("b", 4)
    for _ in range(200):
        run.add("a", 4)
        run.step()
    bound = PATIENCE + 4 + LOAD_STEPS + 4 + 2
    assert run.waits[cold] <= bound
    run.drain()


def test_requests_behind_one_that_loads_do_not_wait_for_it():
    run = Simulation(slots=2, rows=4)
    run.add("a", 10)
    base = run.add(None, 10)
    run.step()
    assert run.waits == {base: 1}
    for _ in range(LOAD_STEPS + 2):
        run.step()
    assert "a-1" in run.waits


def test_adapters_of_waiting_requests_are_brought_while_no_row_is_free():
    run = Simulation(slots=2, rows=1)
    run.add(None, 50)
    run.step()
    run.add("a", 1)
    assert run.step().wanted == ("a",)
    for _ in range(LOAD_STEPS + 1):
        run.step()
    assert run.room.is_resident("a")


def test_a_slot_that_an_older_request_waits_for_is_not_taken():
    run = Simulation(slots=1, rows=1)
    run.add("a", 1)
    while not run.room.is_resident("a"):
        run.step()
    run.drain()
    run.add(None, 20)
    run.step()
    older, younger = run.add("a", 1), run.add("b", 1)
    for _ in range(6):
        assert not run.step().wanted
    run.drain()
    assert run.order.index(older) < run.order.index(younger)


def test_a_load_that_fails_fails_its_own_requests_alone():
    run = Simulation(slots=2, rows=4, broken=frozenset("x"))
    bad = [run.add("x", 3), run.add("x", 3)]
    good = [run.add("a", 3), run.add(None, 3)]
    run.drain()
    assert run.failed == bad
    assert set(run.waits) == set(good)
    assert not run.room.pending


def test_requests_that_nothing_can_help_are_told():
    run = Simulation(slots=1, rows=2)
    run.add("a", 1)
    run.drain()
    run.room.table.pin("a")
    stuck = run.add("b", 1)
    said = [ticket.id for _ in range(PATIENCE + 2) for ticket in run.step().stuck]
    assert said == [stuck]
    assert not run.scheduler.num_waiting


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("slots", "adapters"), [(1, 3), (4, 5), (4, 40), (16, 200)])
def test_random_traffic_leaks_nothing_and_starves_nobody(slots, adapters, seed):
    draw = random.Random(seed)
    run = Simulation(slots=slots, rows=draw.choice([1, 4, 16]))
    longest = 12
    for _ in range(1500):
        # Zipf: adapter k comes with a weight of 1 / k; about as much work as the rows can take.
        while draw.random() < 0.35 and run.scheduler.num_waiting < 400:
            key = draw.choices(range(adapters), [1 / (k + 1) for k in range(adapters)])[0]
            run.add(None if draw.random() < 0.2 else f"k{key}", draw.randint(1, longest))
        if run.running and draw.random() < 0.05:
            run.leave(draw.choice(sorted(run.running)))
        if draw.random() < 0.02:
            pinned = sorted(run.room.table.names())[: max(0, slots - 2)]
            for key in pinned:
                run.room.table.pin(key, draw.random() < 0.3)
        run.step()
    for key in run.room.table.names():
        run.room.table.pin(key, False)
    run.drain()
    assert not any(run.room.table.in_flight().values())
    assert not run.scheduler.active
    assert len(run.waits) == run.count


@pytest.mark.parametrize("seed", range(4))
def test_the_oldest_waiting_request_enters_within_the_bound(seed):
    """While traffic never ends: all of it younger, much of it for adapters that are resident."""
    draw = random.Random(seed)
    run = Simulation(slots=3, rows=6)
    longest = 10
    bound = PATIENCE + 2 * longest + LOAD_STEPS + 3
    oldest_for: dict[str, int] = {}
    for _ in range(3000):
        for _ in range(2):
            key = draw.choices(range(30), [1 / (k + 1) ** 2 for k in range(30)])[0]
            if run.scheduler.num_waiting < 60:
                run.add(f"k{key}", draw.randint(1, longest))
        run.step()
        waiting = [id for id in run.arrived if id not in run.waits]
        if waiting:
            oldest = min(waiting, key=lambda id: (run.arrived[id], int(id.rsplit("-", 1)[1])))
            oldest_for[oldest] = oldest_for.get(oldest, 0) + 1
            assert oldest_for[oldest] <= bound
    run.drain()
