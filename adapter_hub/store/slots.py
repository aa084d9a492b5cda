"""Slots: which adapter lies where on the device, and who is using it. Plain bookkeeping, no tensors."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import AdapterInUse, NoRoom

BASE_SLOT = 0


@dataclass(eq=False)
class _Slot:
    number: int
    digest: str
    num_bytes: int
    shared: Mapping[Hashable, int]  # bytes of what it has in common with others, by what it is
    in_flight: dict[str, int] = field(default_factory=dict)  # by each name that stands for it
    used: int = 0

    @property
    def is_idle(self) -> bool:
        return not any(self.in_flight.values())


class SlotTable:
    """Names, digests and slot numbers of resident adapters, with counts of the work that uses each.

    Slot 0 is the base and always there. A number becomes visible with ``publish``, once every site has been
    written; two names of one digest share a slot. Safe from any thread.

    Args:
        max_slots: adapters that may be resident; 0 is any number.
        max_bytes: bytes that they may take together; 0 is any number.
        pinned: whether the adapter of a name is to stay.
    """

    def __init__(self, max_slots: int = 0, max_bytes: int = 0, pinned: Callable[[str], bool] = lambda _: False) -> None:
        self.max_slots = max_slots
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._by_name: dict[str, _Slot] = {}
        self._by_digest: dict[str, _Slot] = {}
        self._reserved: dict[int, int] = {}
        self._pinned = pinned
        self._free: list[int] = []
        self._highest = BASE_SLOT
        self._clock = 0

    def make_room(self, num_bytes: int, keep: Collection[str] = (), number: int | None = None) -> dict[int, str]:
        """Take idle adapters away until one more of this size fits; the longest unused go first.

        Args:
            num_bytes: size of the adapter that is to come.
            keep: names that stay.
            number: the slot that is reserved for it, now for this size; None if none is.

        Returns:
            The slots to clear and to give back, each with a name that it had; none of theirs is resident any more.

        Raises:
            NoRoom: what is idle and not pinned does not suffice; nothing has changed then.
        """
        with self._lock:
            coming = sum(size for reserved, size in self._reserved.items() if reserved != number) + num_bytes
            slots = len(self._reserved) + (number not in self._reserved)
            staying = deque(sorted(self._by_digest.values(), key=_age))
            kept: list[_Slot] = []
            going: list[_Slot] = []
            while self._is_over(slots + len(kept) + len(staying), coming + _bytes_of([*kept, *staying])):
                if not staying:
                    raise self._no_room(num_bytes)
                slot = staying.popleft()
                (going if self._may_go(slot, keep) else kept).append(slot)
            for slot in going:
                self._forget(slot)
            if number is not None:
                self._reserved[number] = num_bytes
            return {slot.number: next(iter(slot.in_flight)) for slot in going}

    def give_up(self, keep: Collection[str] = ()) -> dict[int, str]:
        """Take away the idle adapter that is longest unused; as ``make_room`` gives it, nothing if there is none."""
        with self._lock:
            for slot in sorted(self._by_digest.values(), key=_age):
                if self._may_go(slot, keep):
                    self._forget(slot)
                    return {slot.number: next(iter(slot.in_flight))}
            return {}

    def refusal(self, num_bytes: int) -> NoRoom:
        """What ``make_room`` raises for an adapter of this size, with the numbers of now."""
        with self._lock:
            return self._no_room(num_bytes)

    def reserve(self, num_bytes: int = 0) -> int:
        """A slot number that nobody can see yet. Asks for no room: see ``make_room``."""
        with self._lock:
            if not self._free:
                self._highest += 1
                self._free.append(self._highest)
            number = self._free.pop()
            self._reserved[number] = num_bytes
            return number

    def give_back(self, number: int) -> None:
        """Return a reserved or retired number, once its sites are clear."""
        with self._lock:
            self._reserved.pop(number, None)
            self._free.append(number)

    def publish(
        self, number: int, name: str, digest: str, num_bytes: int = 0, shared: Mapping[Hashable, int] | None = None
    ) -> None:
        """Make a written slot visible under a name.

        Args:
            number: of the slot.
            name: its name.
            digest: its content.
            num_bytes: what it takes by itself.
            shared: bytes of what it has in common with others, by what it is; they count once.
        """
        with self._lock:
            self._reserved.pop(number, None)
            slot = _Slot(number, digest, num_bytes, shared or {}, {name: 0})
            self._touch(slot)
            self._by_name[name] = self._by_digest[digest] = slot

    def share(self, name: str, digest: str) -> bool:
        """Let ``name`` stand for a slot that holds this content already; False if none does."""
        with self._lock:
            slot = self._by_digest.get(digest)
            if slot is None:
                return False
            slot.in_flight.setdefault(name, 0)
            self._by_name[name] = slot
            return True

    def find(self, name: str) -> int | None:
        """The slot of a resident adapter, or None."""
        slot = self._by_name.get(name)
        return None if slot is None else slot.number

    def lease(self, names: Sequence[str | None]) -> tuple[int, ...] | None:
        """Slots for a batch of names (None is the base), each counted as in use; None if one is not resident."""
        with self._lock:
            slots = [None if name is None else self._by_name.get(name) for name in names]
            if any(slot is None and name is not None for slot, name in zip(slots, names, strict=True)):
                return None
            for slot, name in zip(slots, names, strict=True):
                if slot is not None and name is not None:
                    slot.in_flight[name] += 1
                    self._touch(slot)
            return tuple(BASE_SLOT if slot is None else slot.number for slot in slots)

    def release(self, names: Sequence[str | None]) -> None:
        """End what ``lease`` began, with the same names."""
        with self._lock:
            for name in names:
                if name is not None:
                    self._by_name[name].in_flight[name] -= 1

    def retire(self, names: Sequence[str]) -> list[int]:
        """Take names away, all or none; returns the slots to clear, those that have no name left.

        Raises:
            AdapterInUse: work in flight uses one of them; nothing has changed then.
        """
        with self._lock:
            going = {name: self._by_name[name] for name in names if name in self._by_name}
            for name, slot in going.items():
                if slot.in_flight[name]:
                    raise AdapterInUse(
                        f"adapter {name!r} serves {slot.in_flight[name]} rows right now.",
                        hint="Let them finish, then unload it again.",
                    )
            cleared = []
            for name, slot in going.items():
                del self._by_name[name], slot.in_flight[name]
                if not slot.in_flight:
                    del self._by_digest[slot.digest]
                    cleared.append(slot.number)
            return cleared

    def names(self) -> list[str]:
        """Resident adapters, in the order in which they came."""
        with self._lock:
            return list(self._by_name)

    def in_flight(self) -> dict[str, int]:
        """Rows in use by adapter."""
        with self._lock:
            return {name: slot.in_flight[name] for name, slot in self._by_name.items()}

    def held(self, name: str) -> int:
        """Rows in use of the slot that an adapter lies in, by all its names."""
        with self._lock:
            slot = self._by_name.get(name)
            return 0 if slot is None else sum(slot.in_flight.values())

    def is_pinned(self, name: str) -> bool:
        """Whether the slot of an adapter may not be taken away."""
        with self._lock:
            slot = self._by_name.get(name)
            return self._pinned(name) if slot is None else self._stays(slot)

    @property
    def published_bytes(self) -> int:
        """Bytes of the slots that can be seen."""
        with self._lock:
            return _bytes_of(self._by_digest.values())

    @property
    def bytes(self) -> int:
        """Bytes of all slots, those that are being written included."""
        with self._lock:
            return self._bytes()

    def _bytes(self) -> int:
        return _bytes_of(self._by_digest.values()) + sum(self._reserved.values())

    def _is_over(self, slots: int, num_bytes: int) -> bool:
        return bool((self.max_slots and slots > self.max_slots) or (self.max_bytes and num_bytes > self.max_bytes))

    def _may_go(self, slot: _Slot, keep: Collection[str]) -> bool:
        return slot.is_idle and not any(name in keep for name in slot.in_flight) and not self._stays(slot)

    def _stays(self, slot: _Slot) -> bool:
        return any(map(self._pinned, slot.in_flight))

    def _forget(self, slot: _Slot) -> None:
        for name in slot.in_flight:
            del self._by_name[name]
        del self._by_digest[slot.digest]

    def _touch(self, slot: _Slot) -> None:
        self._clock += 1
        slot.used = self._clock

    def _no_room(self, num_bytes: int) -> NoRoom:
        busy = sum(not slot.is_idle for slot in self._by_digest.values())
        pinned = sum(map(self._stays, self._by_digest.values()))
        fits = not self.max_bytes or num_bytes <= self.max_bytes
        way_out = "raise max_resident or device_bytes, unpin one, or wait" if fits else "raise device_bytes"
        held = f"{len(self._by_digest)} adapters are resident, {busy} of them in use and {pinned} pinned"
        return NoRoom(
            f"there is no room for an adapter of {num_bytes:,} bytes: {held}, {len(self._reserved)} are on their way; "
            f"they take {self._bytes():,} bytes.",
            hint=f"At most {self.max_slots or 'any number of'} adapters and {_number(self.max_bytes)} bytes may be "
            f"resident: {way_out}.",
        )


def _age(slot: _Slot) -> int:
    return slot.used


def _number(limit: int) -> str:
    return f"{limit:,}" if limit else "any number of"


def _bytes_of(slots: Collection[_Slot]) -> int:
    shared: dict[Hashable, int] = {}
    for slot in slots:
        shared.update(slot.shared)
    return sum(slot.num_bytes for slot in slots) + sum(shared.values())
