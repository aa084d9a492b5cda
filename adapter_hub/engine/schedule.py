"""Which waiting requests may enter the batch, and which adapters are brought for the others. Plain bookkeeping.

Time is counted in steps of the engine. The rules, oldest request first:

* A request of the base, or of an adapter that is resident, enters as soon as a row is free.
* A request of any other adapter has its adapter brought, beside the running steps, as soon as a slot is free or
  idle; the requests behind it do not wait for it. Slots of adapters that older requests wait for are not taken.
* A request whose adapter has found no slot for more than ``patience`` steps has one drained: of the busy adapters
  that nothing holds, the one that can be done first gets no requests that are younger than the one that starves.

So if L is the most steps that a request takes from entry to end, the oldest waiting request enters after at most
``patience + 2 L`` steps and one load: patience, then L until the drained slot is idle, then, once it is loaded, L until
a row is free. With s slots, k starving requests of different adapters enter within ``ceil(k / s)`` times that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..errors import NoRoom


class Room(Protocol):
    """The slots, as a scheduler sees them. Keys are those of registered adapters."""

    def is_resident(self, key: str) -> bool:
        """Whether the adapter is in a slot now."""
        ...

    def reserve(self, key: str, keep: frozenset[str]) -> bool:
        """Take a slot that is free, or idle with none of the adapters ``keep`` in it; False if there is none."""
        ...

    def can_drain(self, key: str) -> bool:
        """Whether the adapter's slot is idle as soon as the scheduler's own requests of it are done."""
        ...


class EngineRoom(Room, Protocol):
    """The slots and what fills them, as the engine's loop sees them; its thread alone calls all but ``bring``."""

    def bring(self, key: str) -> None:
        """Load an adapter into its reserved slot, unless it turns out to need another: then it is reserved anew.

        Called from a thread of its own; raises why it cannot.
        """
        ...

    def lease(self, key: str | None) -> int | None:
        """The slot of an adapter, which stays until ``release``; None if it is no longer resident."""
        ...

    def release(self, key: str | None) -> None:
        """End a lease."""
        ...

    def refusal(self, key: str) -> NoRoom:
        """Why an adapter finds no slot."""
        ...

    def surrender(self) -> bool:
        """Give up device memory that nobody uses, for a step that has not enough; False if there is none."""
        ...

    def digest(self, key: str) -> str:
        """Identity of an adapter's content, in hexadecimal digits."""
        ...

    def invocation(self, slot: int) -> tuple[int, ...]:
        """Token ids from whose last occurrence in a prompt on the adapter of a slot acts; empty for all tokens."""
        ...

    def capture_key(self, slots: Sequence[int]) -> object | None:
        """What a captured graph that serves these slots depends on; None where none can be captured."""
        ...


@dataclass(frozen=True)
class Ticket:
    """One request in the eyes of the scheduler.

    Args:
        id: its name.
        key: its adapter; None is the base.
        steps: the most steps that it takes once it has entered.
    """

    id: str
    key: str | None
    steps: int


@dataclass
class _Waiting:
    ticket: Ticket
    number: int  # in the order of arrival
    since: int  # the step of its arrival


@dataclass(frozen=True)
class Entering:
    """What one step begins with.

    Args:
        admitted: requests that enter, oldest first; their adapters are resident.
        wanted: adapters to bring to the slots reserved for them; each once, until ``loaded`` or ``failed`` is told.
        stuck: requests that starve while nothing runs whose end could help them. They have left.
    """

    admitted: tuple[Ticket, ...] = ()
    wanted: tuple[str, ...] = ()
    stuck: tuple[Ticket, ...] = ()


@dataclass
class _Walk:
    """What the requests so far have taken, while the queue is walked."""

    rows: int
    keys: set[str]
    can_load: bool = True
    admitted: list[Ticket] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    stuck: list[Ticket] = field(default_factory=list)


class AdapterScheduler:
    """The waiting requests, in order of arrival, and the rows that are taken.

    Not safe for several threads: the engine's own thread drives it.

    Args:
        room: the slots.
        max_loads: adapters that are brought at the same time.
        patience: steps that a request waits for a slot before one is drained for it.
    """

    def __init__(self, room: Room, *, max_loads: int = 2, patience: int = 64) -> None:
        self.room = room
        self.max_loads = max_loads
        self.patience = patience
        self.step = 0
        self.hits = self.loads = 0  # requests whose adapter was resident when they came, and adapters brought
        self._number = 0
        self._waiting: dict[str, _Waiting] = {}
        self._active: dict[str, Ticket] = {}
        self._ends: dict[str, int] = {}
        self._count: dict[str, int] = {}
        self._loading: set[str] = set()
        # Busy adapters that get nothing younger, each with the number of the request that it is drained for.
        self._draining: dict[str, _Waiting] = {}

    @property
    def num_waiting(self) -> int:
        """Requests that have not entered."""
        return len(self._waiting)

    @property
    def active(self) -> Mapping[str, Ticket]:
        """Requests that have entered, by id."""
        return self._active

    @property
    def loading(self) -> frozenset[str]:
        """Adapters that are on their way."""
        return frozenset(self._loading)

    def waiting_for(self, key: str) -> list[Ticket]:
        """Requests that wait for an adapter, oldest first."""
        return [waiting.ticket for waiting in self._waiting.values() if waiting.ticket.key == key]

    def add(self, ticket: Ticket) -> None:
        """Queue a request."""
        self._number += 1
        self.hits += ticket.key is None or self.room.is_resident(ticket.key)
        self._waiting[ticket.id] = _Waiting(ticket, self._number, self.step)

    def again(self, ticket: Ticket) -> None:
        """An admitted request could not enter, its adapter being gone. It waits again, before all others."""
        self.leave(ticket.id)
        self._waiting = {ticket.id: _Waiting(ticket, 0, self.step), **self._waiting}

    def leave(self, id: str) -> None:
        """A request is done or given up, wherever it is."""
        self._waiting.pop(id, None)
        ticket = self._active.pop(id, None)
        self._ends.pop(id, None)
        if ticket is not None and ticket.key is not None:
            self._count[ticket.key] -= 1
            if not self._count[ticket.key]:
                del self._count[ticket.key]

    def loaded(self, key: str) -> None:
        """An adapter that was wanted is resident now."""
        self._loading.discard(key)

    def failed(self, key: str) -> list[Ticket]:
        """An adapter that was wanted cannot be had: gives the requests that waited for it, which leave."""
        self._loading.discard(key)
        gone = self.waiting_for(key)
        for ticket in gone:
            self.leave(ticket.id)
        return gone

    def enter(self, free_rows: int) -> Entering:
        """Walk the queue once, at the beginning of a step.

        Args:
            free_rows: rows that the batch has left.
        """
        self.step += 1
        self._settle_drains()
        walk = _Walk(free_rows, set(self._loading), len(self._loading) < self.max_loads)
        for waiting in list(self._waiting.values()):
            starving = self.step - waiting.since > self.patience
            if walk.rows <= 0 and not walk.can_load and not starving:
                break
            key = waiting.ticket.key
            if key is None or self.room.is_resident(key):
                self._admit(waiting, walk)
            elif key not in self._loading and not self._bring(key, walk) and starving:
                self._drain_for(waiting, walk)
        for ticket in walk.stuck:
            self.leave(ticket.id)
        return Entering(tuple(walk.admitted), tuple(walk.wanted), tuple(walk.stuck))

    def _admit(self, waiting: _Waiting, walk: _Walk) -> None:
        ticket = waiting.ticket
        if ticket.key is not None:
            walk.keys.add(ticket.key)  # entered or not: who enters has no lease before the walk is over
        if walk.rows > 0 and not self._is_barred(waiting):
            walk.rows -= 1
            walk.admitted.append(ticket)
            del self._waiting[ticket.id]
            self._active[ticket.id] = ticket
            self._ends[ticket.id] = self.step + ticket.steps
            if ticket.key is not None:
                self._count[ticket.key] = self._count.get(ticket.key, 0) + 1

    def _bring(self, key: str, walk: _Walk) -> bool:
        # What an older request found no room for is not given away in smaller pieces.
        walk.can_load = walk.can_load and self.room.reserve(key, frozenset(walk.keys))
        if not walk.can_load:
            return False
        self._loading.add(key)
        self.loads += 1
        walk.can_load = len(self._loading) < self.max_loads
        walk.keys.add(key)
        walk.wanted.append(key)
        for drained, reason in list(self._draining.items()):
            if reason.ticket.key == key:
                del self._draining[drained]
        return True

    def _drain_for(self, waiting: _Waiting, walk: _Walk) -> None:
        if any(reason.ticket.key == waiting.ticket.key for reason in self._draining.values()):
            return
        busy = [
            key
            for key in self._count
            if key not in self._draining and key not in walk.keys and self.room.can_drain(key)
        ]
        if busy:
            self._draining[min(busy, key=self._done_by)] = waiting
        elif not self._active and not self._loading:
            walk.stuck.append(waiting.ticket)

    def _done_by(self, key: str) -> int:
        """The step by which all requests of an adapter that have entered are done."""
        return max(self._ends[id] for id, ticket in self._active.items() if ticket.key == key)

    def _settle_drains(self) -> None:
        """End drains whose reason is gone."""
        for key, reason in list(self._draining.items()):
            if reason.ticket.id not in self._waiting:
                del self._draining[key]

    def _is_barred(self, waiting: _Waiting) -> bool:
        key = waiting.ticket.key
        reason = None if key is None else self._draining.get(key)
        return reason is not None and waiting.number > reason.number
