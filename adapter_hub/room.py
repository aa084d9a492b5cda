"""The slots as the engine sees them: what is in them, who may enter, what makes way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence

from .errors import NoRoom, NotRegistered
from .runtime import AdapterBank
from .store import AdapterInfo, Counters, SlotTable


class SlotRoom:
    """The engine's side of the slots; see ``engine.schedule.EngineRoom``.

    Args:
        known: what there is to know of an adapter, by key.
        slots: who lies where.
        bank: what lies there.
        changing: held while slots change hands.
        load: brings an adapter to a slot, by key.
        evict: clears a slot that has to make way, of the adapter of this key, and gives it back.
        surrender: gives up what nobody uses on the device; False if there is nothing.
        uses: where requests are counted that found their adapter resident, and those that had it brought.
    """

    def __init__(
        self,
        known: Callable[[str], AdapterInfo],
        slots: SlotTable,
        bank: AdapterBank,
        changing: threading.RLock,
        load: Callable[[str], object],
        evict: Callable[[int, str], None],
        surrender: Callable[[], bool],
        uses: Counters,
    ) -> None:
        self._known = known
        self.slots = slots
        self.bank = bank
        self._changing = changing
        self._load = load
        self._evict = evict
        self.surrender = surrender
        self._uses = uses
        self._brought: set[str] = set()  # and not used yet
        self._reserved: dict[str, int] = {}
        self._slotless: set[str] = set()  # found no slot when they were brought
        self._sizes: dict[str, int] = {}  # by key, of adapters that have been read: a file does not tell what they take
        self._leases: dict[str, int] = {}  # of requests in the engine, whose thread alone writes it

    def take(self, key: str, num_bytes: int, keep: Collection[str] = ()) -> int:
        """A slot for an adapter of this size: the one that is reserved for it, or another; idle adapters make way.

        Raises:
            NoRoom: no slot is free or idle.
        """
        self._sizes[key] = num_bytes
        try:
            return self._take(key, keep)
        except NoRoom:
            self._slotless.add(key)
            raise

    def _take(self, key: str, keep: Collection[str]) -> int:
        num_bytes, reserved = self._size(key), self._reserved.get(key)
        for slot, gone in self.slots.make_room(num_bytes, keep, reserved).items():
            self._evict(slot, gone)
        return self.slots.reserve(num_bytes) if reserved is None else self._reserved.pop(key)

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
                self._reserved[key] = self._take(key, keep)
            except NoRoom:
                return False
            return True

    def bring(self, key: str) -> None:
        """Load an adapter into the slot that ``reserve`` took, which is given back if that fails.

        One that finds no slot after all is left to wait for another: it takes more here than its files do, or others
        have loaded and unloaded it meanwhile, in the slot that was meant for this.
        """
        self._slotless.discard(key)
        try:
            self._load(key)
            self._brought.add(key)
        except NoRoom:
            if key not in self._slotless:
                raise
        finally:
            with self._changing:
                left = self._reserved.pop(key, None)
                if left is not None:
                    self.slots.give_back(left)

    def refusal(self, key: str) -> NoRoom:
        """Why an adapter finds no slot, with the numbers."""
        reason = self.slots.refusal(self._size(key))
        return NoRoom(f"adapter {key!r} finds no slot: {reason.message}", hint=reason.hint)

    def _size(self, key: str) -> int:
        return self._sizes.get(key) or self._known(key).bytes

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
            if key in self._brought:
                self._brought.discard(key)
                self._uses.miss()
            else:
                self._uses.hit()
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
