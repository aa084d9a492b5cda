"""Slots: which adapter lies where on the device, and who is using it. Plain bookkeeping, no tensors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import AdapterInUse

BASE_SLOT = 0


@dataclass
class _Slot:
    number: int
    digest: str
    in_flight: dict[str, int] = field(default_factory=dict)  # by each name that stands for it


class SlotTable:
    """Names, digests and slot numbers of resident adapters, with counts of the work that uses each.

    Slot 0 is the base and always there. A number becomes visible with ``publish``, once every site has been
    written; two names of one digest share a slot. Safe from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_name: dict[str, _Slot] = {}
        self._by_digest: dict[str, _Slot] = {}
        self._free: list[int] = []
        self._highest = BASE_SLOT

    def reserve(self) -> int:
        """A slot number that nobody can see yet."""
        with self._lock:
            if self._free:
                return self._free.pop()
            self._highest += 1
            return self._highest

    def give_back(self, number: int) -> None:
        """Return a reserved or retired number, once its sites are clear."""
        with self._lock:
            self._free.append(number)

    def publish(self, number: int, name: str, digest: str) -> None:
        """Make a written slot visible under a name."""
        with self._lock:
            slot = _Slot(number, digest, {name: 0})
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
