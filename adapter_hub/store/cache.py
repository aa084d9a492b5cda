"""A cache with a budget in bytes: what was used longest ago goes first, tier by tier. Plain bookkeeping, no tensors."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic

from ..errors import NoRoom
from .entry import Entry, K, Making, V
from .tiers import Counters, Tier, TierReport

Reserve = Callable[[int], None]


class ByteCache(Generic[K, V]):
    """Values by key, each in one tier of memory. Safe from any thread; no lock is held while values are made or copied.

    A value comes into the first tier. Where its bytes are wanted, it moves a tier down, and out of the last one it
    is dropped. What is in use or pinned stays where it is. Only values of the first tier can be used.

    Args:
        tiers: the first one is where values are used; the others, in their order, are where they wait.
    """

    def __init__(self, *tiers: Tier[V]) -> None:
        self.tiers = tiers
        self._changed = threading.Condition(threading.Lock())
        self._entries: dict[K, Entry[K, V]] = {}
        self._makings: dict[K, Making[K, V]] = {}
        self._order: list[OrderedDict[K, Entry[K, V]]] = [OrderedDict() for _ in tiers]
        self._counters = [Counters() for _ in tiers]
        self._used = [0] * len(tiers)
        self._firm = [0] * len(tiers)

    def lease(self, key: K) -> Entry[K, V] | None:
        """The entry of ``key``, counted as in use until ``release``; None where it is not in the first tier."""
        with self._changed:
            entry = self._entries.get(key)
            if entry is None or entry.tier:
                self._counters[0].miss()
                return None
            return self._use(entry)

    def release(self, entry: Entry[K, V]) -> None:
        """End what ``lease`` began."""
        with self._changed:
            entry.uses -= 1
            self._settle(entry)
            self._free_if_idle(entry)

    @contextmanager
    def holding(self, key: K, make: Callable[[Reserve], V], *, expendable: bool = False) -> Iterator[V]:
        """The value of ``key``, in use within the block; made, or copied up, if it is not in the first tier.

        Of several threads that ask for one value, one makes it and all get it; if that fails, all get the error.

        Args:
            make: makes the value. It calls the function that it is given with the bytes that the value takes, as soon
                as it knows them, and again with what that was off by. A value for which no bytes were asked is
                handed out and not kept.
            expendable: the value takes only bytes that are free, and is the first to go, out of all tiers.

        Raises:
            NoRoom: the bytes are not there, and what lies there is in use or pinned. Nothing had to go for them.
        """
        entry = self._obtain(key, make, expendable)
        try:
            yield entry.value
        finally:
            self.release(entry)

    def pin(self, key: K, pinned: bool = True) -> bool:
        """Keep a value where it is until it is unpinned or dropped; False if there is none."""
        with self._changed:
            entry, making = self._entries.get(key), self._makings.get(key)
            if making is not None:
                making.pinned = pinned
            if entry is not None:
                entry.pinned = pinned
                self._settle(entry)
            return entry is not None or making is not None

    def drop(self, key: K) -> bool:
        """Forget a value, also one that is being made; False if there is none.

        Nobody gets it any more. Its bytes are free when those who use it are done with it.
        """
        with self._changed:
            making, entry = self._makings.get(key), self._entries.pop(key, None)
            if making is not None:
                making.dropped = True
            if entry is not None:
                del self._order[entry.tier][key]
                entry.dropped = True
                self._settle(entry)
                self._free_if_idle(entry)
            return entry is not None or making is not None

    def surrender(self, num_bytes: int) -> int:
        """Give up idle values of the first tier until so many bytes are free there; returns how many became free."""
        freed = 0
        with self._changed:
            while freed < num_bytes and (victim := self._victim(0)) is not None:
                freed += victim.num_bytes if self._push_down(victim) else 0
        return freed

    def tier_of(self, key: K) -> int | None:
        """The tier a value lies in; None if there is none."""
        with self._changed:
            entry = self._entries.get(key)
            return None if entry is None else entry.tier

    def listing(self, tier: int) -> dict[K, int]:
        """Bytes by key of what lies in a tier, what was used longest ago first."""
        with self._changed:
            return {key: entry.num_bytes for key, entry in self._order[tier].items()}

    def report(self) -> tuple[TierReport, ...]:
        """What each tier holds, and what has happened there."""
        with self._changed:
            return tuple(
                self._counters[k].report(tier.name, limit=tier.limit, used=self._used[k], entries=len(self._order[k]))
                for k, tier in enumerate(self.tiers)
            )

    def _obtain(self, key: K, make: Callable[[Reserve], V], expendable: bool) -> Entry[K, V]:
        with self._changed:
            below = self._entries.get(key)
            if below is not None and below.tier == 0:
                return self._use(below)
            self._counters[0].miss()
            making = self._makings.get(key)
            if making is not None:
                return self._wait(making)
            making = self._makings[key] = Making(expendable and below is None)
            if below is not None:
                making.pinned = below.pinned
                self._use(below)
            else:
                for counters in self._counters[1:]:
                    counters.miss()
        start = time.perf_counter()
        try:
            if below is None:
                value = make(lambda num_bytes: self._reserve(making, num_bytes))
            else:
                self._reserve(making, below.num_bytes)
                value = self.tiers[0].bring(below.value)
        except BaseException as error:
            with self._changed:
                self._finish(key, making, below, error=error)
            raise
        with self._changed:
            self._counters[0].loaded(time.perf_counter() - start)
            entry = Entry(key, value, making.reserved or 0, making.pinned, making.expendable, uses=1 + making.waiting)
            self._finish(key, making, below, entry)
        return entry

    def _wait(self, making: Making[K, V]) -> Entry[K, V]:
        making.waiting += 1
        try:
            self._changed.wait_for(lambda: making.done)
        except BaseException:  # an interrupt: nobody is there to release what this thread would have got
            making.waiting -= 1
            if making.entry is not None:
                making.entry.uses -= 1
                self._settle(making.entry)
                self._free_if_idle(making.entry)
            raise
        making.waiting -= 1
        if making.entry is not None:
            return making.entry
        error = making.error
        assert error is not None
        if not making.waiting:
            making.error = None
        try:
            raise error
        finally:
            del error

    def _finish(
        self,
        key: K,
        making: Making[K, V],
        below: Entry[K, V] | None,
        entry: Entry[K, V] | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Publish a made entry, or the error in its place. The copy below it is no longer needed, or stays."""
        del self._makings[key]
        making.done, making.entry = True, entry
        if making.waiting:  # an error holds the frames it came through, and what they hold: it must not stay here
            making.error = error
        if entry is None:
            self._used[0] -= making.reserved or 0
            self._firm[0] -= making.reserved or 0
        else:
            entry.dropped = making.dropped or making.reserved is None
            if not entry.dropped:
                if below is not None:
                    del self._order[below.tier][key]
                    below.dropped = True
                self._entries[key] = self._order[0][key] = entry
                if entry.expendable:
                    self._order[0].move_to_end(key, last=False)
        if below is not None:
            below.uses -= 1
            self._settle(below)
            self._free_if_idle(below)
        self._changed.notify_all()

    def _reserve(self, making: Making[K, V], num_bytes: int) -> None:
        with self._changed:
            self._take(0, num_bytes, evict=not making.expendable)
            self._firm[0] += num_bytes
            making.reserved = (making.reserved or 0) + num_bytes

    def _take(self, tier: int, num_bytes: int, *, evict: bool = True) -> None:
        """Count bytes as used, those of idle entries if need be."""
        limit = self.tiers[tier].limit
        while self._used[tier] + num_bytes > limit:
            if not evict or self._firm[tier] + num_bytes > limit:
                raise self._no_room(tier, num_bytes)
            victim = self._victim(tier)
            if victim is not None:
                self._push_down(victim)
            else:  # other threads are copying the last ones away
                self._changed.wait()
        self._used[tier] += num_bytes

    def _no_room(self, tier: int, num_bytes: int) -> NoRoom:
        place, firm, used = self.tiers[tier], self._firm[tier], self._used[tier]
        return NoRoom(
            f"{num_bytes:,} bytes find no room in the tier {place.name!r}: of its {place.limit:,} bytes {used:,} are "
            f"taken, {firm:,} of them in use or pinned.",
            hint=f"Raise {place.setting}, or unpin or unload something.",
        )

    def _victim(self, tier: int) -> Entry[K, V] | None:
        return next((entry for entry in self._order[tier].values() if not entry.firm and not entry.leaving), None)

    def _push_down(self, entry: Entry[K, V]) -> bool:
        """Move an idle entry a tier down, or drop it. False if somebody wanted it while it was copied."""
        start, tier, below = time.perf_counter(), entry.tier, entry.tier + 1
        entry.leaving = True
        copies: list[V] = []
        try:
            if not entry.expendable and below < len(self.tiers):
                copies = self._copied_down(entry, below)
        finally:
            entry.leaving = False
            self._changed.notify_all()
            if entry.firm:  # leased, pinned or dropped since
                if copies:
                    self._used[below] -= entry.num_bytes
                self._free_if_idle(entry)
        if entry.firm:
            return False
        del self._order[tier][entry.key]
        self._used[tier] -= entry.num_bytes
        seconds = time.perf_counter() - start
        self._counters[tier].evicted(seconds)
        if copies:
            entry.value, entry.tier = copies[0], below
            self._order[below][entry.key] = entry
            self._counters[below].loaded(seconds)
        else:
            del self._entries[entry.key], entry.value
        return True

    def _copied_down(self, entry: Entry[K, V], below: int) -> list[V]:
        """A copy for the tier below, its bytes taken there; none where there is no room or no memory for it."""
        try:
            self._take(below, entry.num_bytes)
        except NoRoom:
            return []
        self._firm[below] += entry.num_bytes
        copies: list[V] = []
        self._changed.release()
        try:
            copies.append(self.tiers[below].bring(entry.value))
        except Exception:  # what cannot be copied is dropped, and made anew when it is wanted again
            copies.clear()
        finally:
            self._changed.acquire()
            self._firm[below] -= entry.num_bytes
            if not copies:
                self._used[below] -= entry.num_bytes
        return copies

    def _use(self, entry: Entry[K, V]) -> Entry[K, V]:
        entry.uses += 1
        self._settle(entry)
        self._counters[entry.tier].hit()
        if not entry.expendable:
            self._order[entry.tier].move_to_end(entry.key)
        return entry

    def _settle(self, entry: Entry[K, V]) -> None:
        firm = bool(entry.uses or entry.pinned or entry.dropped)
        if firm != entry.firm:
            entry.firm = firm
            self._firm[entry.tier] += entry.num_bytes if firm else -entry.num_bytes

    def _free_if_idle(self, entry: Entry[K, V]) -> None:
        if entry.dropped and not entry.uses and not entry.leaving:
            self._used[entry.tier] -= entry.num_bytes
            self._firm[entry.tier] -= entry.num_bytes
            del entry.value
