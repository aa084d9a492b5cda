"""Where adapters lie: in host memory, in slots on the device, merged; and how they move between these."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager

from . import memory, ops
from .base import BaseModel
from .base.loader import DTYPES
from .config import Settings
from .engine import Voice
from .errors import NoRoom, NotRegistered
from .reading import Reader, ordinary_tensors
from .room import SlotRoom
from .runtime import BASE_DIGEST, AdapterBank, HostCopy, HostTier, MergedCache, RowMap
from .store import AdapterInfo, SlotTable
from .tiers import Tiers


class Places:
    """The tiers of a hub. Safe from any thread.

    Args:
        base: the frozen base.
        reader: knows adapters by their keys.
        settings: budgets.
        default_rows: holds the default adapter for one forward and gives its rows.
        load: brings an adapter to a slot, by key.
    """

    def __init__(
        self,
        base: BaseModel,
        reader: Reader,
        settings: Settings,
        default_rows: Callable[[], AbstractContextManager[RowMap]],
        load: Callable[[str], object],
    ) -> None:
        self.base = base
        self.changing = threading.RLock()
        self.voices: dict[str | None, Voice] = {}
        self._reader = reader
        self.slots = SlotTable(settings.max_resident, settings.device_bytes, self._is_pinned)
        self._stacks = ops.StackBudget(settings.stack_bytes, DTYPES[settings.stack_dtype])
        make_planner = ops.choose(settings.mixed_path, base.device, self._stacks)
        dtype = DTYPES.get(settings.adapter_dtype)
        self.bank = AdapterBank(base, dtype, default_rows, make_planner, self._serving)
        self.merged = MergedCache(self.bank, settings, lambda: self.tiers.tell())
        self.host = HostTier(settings.host_bytes, base.device)
        self.tiers = Tiers(base, reader.registry, self.bank, self.host, self.merged, settings.device_bytes or None)
        self.room = SlotRoom(
            reader.known, self.slots, self.bank, self.changing, load, self._evict, self.surrender, self.tiers.device
        )

    def close(self) -> None:
        """Free everything and give the model its own forward back."""
        self.merged.close()
        self.bank.close()
        self.host.clear()
        self.tiers.close()

    def install(self, info: AdapterInfo, read: Callable[[], HostCopy], keep: Collection[str] = ()) -> None:
        """Put a proven adapter into a slot, out of the host tier if it is there.

        Args:
            info: what is known of it.
            read: reads it.
            keep: keys of adapters that do not make way for it.

        Raises:
            NoRoom: no slot is free or idle.
        """
        with ordinary_tensors(), self.host.holding(info.digest, read) as copy:
            self.install_copy(info, copy, keep)

    def install_copy(self, info: AdapterInfo, copy: HostCopy, keep: Collection[str] = ()) -> None:
        """Write an adapter into a slot and publish it, or share the slot that has its content."""
        with self.changing:
            self.voices[info.key] = copy.voice
            if self.slots.find(info.key) is not None or self.slots.share(info.key, info.digest):
                return
            # Without a budget of bytes nobody asks what it takes, and to find out is a part of a load's time.
            num_bytes = self.bank.cost(copy.updates, copy.shared) if self.slots.max_bytes else info.bytes
            slot = self.room.take(info.key, num_bytes, keep)
            try:
                with ordinary_tensors(), self.tiers.device.loading():
                    self._write(slot, copy, keep)
            except BaseException:
                self.slots.give_back(slot)
                raise
            self.merged.attach(slot, info.digest)
            self.slots.publish(slot, info.key, info.digest, self.bank.bytes(slot), self.bank.shared_blocks(slot))
        self.tiers.tell()

    def surrender(self) -> bool:
        """Give up what nobody uses or has pinned: all merged weights, or if there are none the slot longest unused."""
        with self.changing:
            return bool(self.merged.surrender(sys.maxsize)) or self._give_up_idle()

    def _write(self, slot: int, copy: HostCopy, keep: Collection[str]) -> None:
        """Write a slot; where the device has no memory left, merged weights go first, then idle slots.

        Raises:
            NoRoom: that did not suffice.
        """
        while True:
            try:
                return self.bank.install(slot, copy.updates, copy.shared, copy.invocation)
            except Exception as error:
                if not memory.is_shortage(error):
                    raise
                if not self.merged.surrender(copy.num_bytes) and not self._give_up_idle(keep):
                    raise NoRoom(
                        f"the device has no memory for an adapter of {copy.num_bytes} bytes: "
                        f"{self.slots.published_bytes} bytes of adapters are in use or pinned, "
                        f"{sum(self.merged.listing().values())} are merged.",
                        hint="Unload or unpin some, or lower cache_bytes or stack_bytes.",
                    ) from error

    def _give_up_idle(self, keep: Collection[str] = ()) -> bool:
        gone = self.slots.give_up(keep)
        for slot, key in gone.items():
            self._evict(slot, key)
        return bool(gone)

    def unload(self, keys: Sequence[str] | None, *, keep_on_host: bool) -> None:
        """Take adapters, or all and the dequantised base, off the device."""
        with self.changing:
            digests = None if keys is None else [self._digest_of(key) for key in keys]
            self.take_off(self.slots.names() if keys is None else keys, keep_on_host=keep_on_host)
            if keys is None:
                self.merged.unmerge(BASE_DIGEST)
            if not keep_on_host:
                self._forget_on_host(digests)
        if not keep_on_host:
            memory.give_back(self.base.device)
        self.tiers.tell()

    def take_off(self, keys: Sequence[str], *, keep_on_host: bool = False) -> None:
        """Clear the slots of these adapters; the caller holds ``changing``.

        Raises:
            AdapterInUse: one of them serves right now; nothing has changed then.
        """
        voices = {self.slots.find(key): self.voices.get(key) for key in keys}
        for slot in self.slots.retire(keys):
            self._clear(slot, voices[slot] if keep_on_host else None)
        for gone in keys:
            self.voices.pop(gone, None)

    def memory(self) -> memory.MemoryReport:
        """Where the bytes are."""
        slots = {key: self.slots.find(key) for key in self.slots.names()}
        adapters: Mapping[str, int] = {key: self.bank.bytes(slot) for key, slot in slots.items() if slot is not None}
        return self.tiers.memory(adapters, self._stacks.used)

    def _evict(self, slot: int, key: str) -> None:
        """Empty a slot that has to make way; its content stays in host memory, as far as there is room."""
        start = time.perf_counter()
        self._clear(slot, self.voices.get(key))
        self.tiers.device.evicted(time.perf_counter() - start)

    def _clear(self, slot: int, voice: Voice | None) -> None:
        """Empty a retired slot and free what was merged from it; with its voice, its content goes to the host tier."""
        digest = self.merged.digest_of(slot)
        copy = None
        if voice is not None and not self.host.apart:
            updates = {path: update for path, (update, _) in self.bank.contents(slot).items()}
            copy = HostCopy(updates, self.bank.shared(slot), voice, self.bank.invocation(slot))
        self.merged.detach(slot)
        self.bank.clear(slot)
        self.slots.give_back(slot)
        if copy is not None:
            self.host.keep(digest, copy)

    def _digest_of(self, key: str) -> str:
        slot = self.slots.find(key)
        return self._reader.known(key).digest if slot is None else self.merged.digest_of(slot)

    def _forget_on_host(self, digests: Sequence[str] | None) -> None:
        """Free the host's copies of these adapters, or of all, where they are in no slot any more."""
        for known in self.host.listing() if digests is None else digests:
            if known not in self.merged.digests():
                self.host.drop(known)

    def _serving(self, rows: RowMap, num_tokens: int) -> AbstractContextManager[RowMap]:
        return self.merged.serving(rows, num_tokens)

    def _is_pinned(self, key: str) -> bool:
        try:
            return self._reader.known(key).pinned
        except NotRegistered:  # removed by somebody else; what is resident goes when its slot is wanted
            return False
