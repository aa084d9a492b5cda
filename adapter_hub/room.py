"""The slots as the engine sees them: what is in them, who may enter, what makes way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence

from .errors import NoRoom, NotRegistered
from .runtime import AdapterBank
from .store import AdapterInfo, SlotTable


class SlotRoom:
    """The engine's side of the slots; see ``engine.schedule.EngineRoom``.

    Args:
        known: what there is to know of an adapter, by key.
        slots: who lies where.
        bank: what lies there.
        changing: held while slots change hands.
        load: brings an adapter to a slot, by key.
        evict: clears a slot that has to make way, of the adapter of this key, and gives it back.
    """

    def __init__(
        self,
        known: Callable[[str], AdapterInfo],
        slots: SlotTable,
        bank: AdapterBank,
        changing: threading.RLock,
        load: Callable[[str], object],
        evict: Callable[[int, str], None],
    ) -> None:
        self._known = known
        self.slots = slots
        self.bank = bank
        self._changing = changing
        self._load = load
        self._evict = evict
        self._reserved: dict[str, int] = {}
        self._leases: dict[str, int] = {}  # of requests in the engine, whose thread alone writes it

    def take(self, info: AdapterInfo, keep: Collection[str] = ()) -> int:
        """A slot for an adapter: the one that is reserved for it, or another one; idle adapters make way.

        Raises:
            NoRoom: no slot is free or idle.
        """
        reserved = self._reserved.pop(info.key, None)
        if reserved is not None:
            return reserved
        for slot, key in self.slots.make_room(info.bytes, keep).items():
            self._evict(slot, key)
        return self.slots.reserve(info.bytes)

    def is_resident(self, key: str) -> bool:
        """Whether an adapter is in a slot."""
        return self.slots.find(key) is not None

    def reserve(self, key: str, keep: frozenset[str]) -> bool:
        """Take a slot for an adapter that is about to be brought; False if none is free, or idle and not kept."""
        with self._changing:
            try:
                info = self._known(key)
            except NotRegistered:  # removed while requests wait for it: who brings it finds that, and tells them
                return True
            if key in self._reserved or self.slots.share(key, info.digest):
                return True
            try:
                self._reserved[key] = self.take(info, keep)
            except NoRoom:
                return False
            return True

    def bring(self, key: str) -> None:
        """Load an adapter into the slot that ``reserve`` took, which is given back if that fails."""
        try:
            self._load(key)
        finally:
            with self._changing:
                left = self._reserved.pop(key, None)
                if left is not None:
                    self.slots.give_back(left)

    def can_drain(self, key: str) -> bool:
        """Whether nothing but requests of the engine keeps an adapter in its slot."""
        return not self.slots.is_pinned(key) and self.slots.held(key) <= self._leases.get(key, 0)

    def lease(self, key: str | None) -> int | None:
        """The slot of an adapter, counted as in use by a request until ``release``; None if it is in none.

        Others may unload it, or have it make way, between a scheduler's look and this.
        """
        slots = self.slots.lease([key])
        if slots is None:
            return None
        if key is not None:
            self._leases[key] = self._leases.get(key, 0) + 1
        return slots[0]

    def release(self, key: str | None) -> None:
        """End what ``lease`` began."""
        if key is not None:
            self._leases[key] -= 1
        self.slots.release([key])

    def digest(self, key: str) -> str:
        """Identity of an adapter's content."""
        return self._known(key).digest

    def invocation(self, slot: int) -> tuple[int, ...]:
        """Token ids from which on a row uses a slot; empty for all of its tokens."""
        return self.bank.invocation(slot)

    def capture_key(self, slots: Sequence[int]) -> object | None:
        """What a captured graph that serves these slots depends on; None where none can be captured."""
        return self.bank.capture_key(slots)
