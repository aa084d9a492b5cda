"""The cache of merged weights: which adapters have them, which forwards run them, and who is merged next."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from .. import cores
from ..config import Settings
from ..errors import AdapterHubError
from ..store import BASE_SLOT, ByteCache, Entry, Reserve, Tier, TierReport
from ..store.runs import Runs
from .bank import AdapterBank
from .merge import MergedWeights, merge
from .rowmap import RowMap

BASE_DIGEST = ""  # the empty adapter's: its merged weights are the dequantised base
# From so many tokens on, a product in 16 bit is faster than the 4-bit one: measured on a CPU core at bfloat16. On CUDA
# bitsandbytes 0.50 has kernels for few rows, and dequantises the whole weight for more; from 8 on most devices do.
MIN_TOKENS = {"cpu": 32, "cuda": 8}
LOG = logging.getLogger(__name__)


class MergedCache:
    """Merged weights by the digest of their adapter, within a budget. Safe from any thread.

    A forward whose rows all use one adapter runs its merged weights where there are some; while it does, they are
    not freed. What is merged is decided by hand, or under the policy ``auto`` by the runs of whole batches that an
    adapter carries; then a thread of its own merges, and forwards go on beside it.

    Args:
        bank: the slots, and the sites that ask for merged weights.
        settings: budgets and the policy.
        changed: is called when the thread has merged something.
    """

    def __init__(self, bank: AdapterBank, settings: Settings, changed: Callable[[], None]) -> None:
        self._bank = bank
        self._base = bank.base
        self._changed = changed
        self._auto = settings.merge_policy == "auto"
        self._min_tokens = settings.merge_min_tokens or MIN_TOKENS.get(self._base.device.type, 1)
        self._cache: ByteCache[str, MergedWeights] = ByteCache(*_tiers(self._base.device, settings))
        self._runs = Runs(settings.merge_after)
        self._lock = threading.Lock()
        self._digests: dict[int, str] = {BASE_SLOT: BASE_DIGEST}
        self._by_hand: set[str] = set()
        self._asked: set[str] = set()
        self._refused: set[str] = set()
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def close(self) -> None:
        """Stop merging and free everything. Once is enough."""
        with self._lock:
            thread, self._closed = self._thread, True
        if thread is not None:
            self._queue.put(None)
            thread.join()
        for digest in set(self._digests.values()):
            self.unmerge(digest)

    def attach(self, slot: int, digest: str) -> None:
        """A slot has been published with this content."""
        with self._lock:
            self._digests[slot] = digest

    def detach(self, slot: int) -> None:
        """A slot is about to be cleared: what was merged from it is freed with it."""
        with self._lock:
            digest = self._digests.pop(slot, None)
        if digest is not None:
            self.unmerge(digest)

    def digests(self) -> dict[str, int]:
        """Slots by the content of each that is published; the base is not among them."""
        with self._lock:
            return {digest: slot for slot, digest in self._digests.items() if slot != BASE_SLOT}

    def digest_of(self, slot: int) -> str:
        """The content of a published slot."""
        return self._digests[slot]

    @contextmanager
    def serving(self, rows: RowMap, num_tokens: int) -> Iterator[RowMap]:
        """The rows of a forward, with the merged weights that it is to run, which are in use within the block."""
        entry = self._lease(rows, num_tokens)
        if entry is None:
            yield rows
            return
        try:
            yield rows.with_merged(entry.value.linears)
        finally:
            self._cache.release(entry)

    @contextmanager
    def holding(self, digest: str) -> Iterator[MergedWeights]:
        """The merged weights of a published slot's content, made if there are none, in use within the block.

        Raises:
            NoRoom: the budget or the memory is too small for them.
        """

        def make(reserve: Reserve) -> MergedWeights:
            contents = self._bank.contents(self._slot_of(digest))
            self._slot_of(digest)  # it was not cleared while it was read
            merged = merge(self._base, contents, reserve)
            cores.release()  # others may be computing meanwhile
            if digest == BASE_DIGEST:
                self._bank.cover(merged.linears)
            return merged

        with self._cache.holding(digest, make, expendable=digest == BASE_DIGEST) as merged:
            if digest not in self._digests.values():
                self._cache.drop(digest)  # the slot was cleared since, by somebody who found nothing to free
            yield merged

    def merge(self, digest: str, *, pin: bool = False) -> MergedWeights:
        """Merge by hand: every batch that the adapter has to itself runs its merged weights from now on.

        Raises: as ``holding``.
        """
        with self.holding(digest) as merged:
            self._by_hand.add(digest)
            self._refused.discard(digest)
            self._cache.pin(digest, pin)
            return merged

    def unmerge(self, digest: str) -> None:
        """Free merged weights; forwards that run them keep them to their end."""
        self._by_hand.discard(digest)
        self._refused.clear()  # what did not fit may fit now
        self._runs.forget(digest)
        self._cache.drop(digest)
        if digest == BASE_DIGEST:
            self._bank.cover(())

    def has(self, digest: str) -> bool:
        """Whether there are merged weights of this content, on the device or below."""
        return self._cache.tier_of(digest) is not None

    def surrender(self, num_bytes: int) -> int:
        """Give up merged weights that no forward runs and nobody pinned, until so many bytes are free.

        First the dequantised base, then what was used longest ago. Returns how many bytes became free.
        """
        return self._cache.surrender(num_bytes)

    def listing(self, tier: int = 0) -> dict[str, int]:
        """Bytes by digest, on the device or in a tier below."""
        return self._cache.listing(tier) if tier < len(self._cache.tiers) else {}

    def report(self) -> tuple[TierReport, ...]:
        """What each tier of merged weights holds, and what has happened there."""
        return self._cache.report()

    def _lease(self, rows: RowMap, num_tokens: int) -> Entry[str, MergedWeights] | None:
        if rows.merged is not None or not (self._auto or self._by_hand):
            return None
        if rows.everywhere is None:
            self._runs.shared(self._digests.get(slot, BASE_DIGEST) for slot in set(rows.slots))
            return None
        digest = self._digests.get(rows.everywhere)
        if digest is None or not (digest in self._by_hand or (self._auto and num_tokens >= self._min_tokens)):
            return None
        # A captured graph would go on reading these addresses when they are others' already.
        if self._base.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return None
        entry = self._cache.lease(digest)
        if entry is None and self._runs.whole(digest):
            self._ask(digest)
        return entry

    def _ask(self, digest: str) -> None:
        """Have an adapter merged in the background, unless it is to be already or was found not to fit."""
        with self._lock:
            if digest in self._asked or digest in self._refused or self._closed:
                return
            self._asked.add(digest)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="adapter-hub-merge", daemon=True)
                self._thread.start()
        self._queue.put(digest)

    def _work(self) -> None:
        while (digest := self._queue.get()) is not None:
            try:
                with self.holding(digest):
                    pass
                self._changed()
            except _Gone:
                pass
            except Exception as error:
                self._refused.add(digest)
                known = isinstance(error, AdapterHubError)
                LOG.warning("not merged: %s", error, exc_info=None if known else error)
            finally:
                self._asked.discard(digest)

    def _slot_of(self, digest: str) -> int:
        with self._lock:
            slot = next((slot for slot, known in self._digests.items() if known == digest), None)
        if slot is None:
            raise _Gone
        return slot


class _Gone(Exception):
    """The adapter was unloaded before it could be merged."""


def _tiers(device: torch.device, settings: Settings) -> list[Tier[MergedWeights]]:
    """The device, and below it pinned host memory; on a CPU both are the same memory, so there is but one."""
    tiers = [Tier("merged", settings.merged_bytes, "merged_bytes", lambda merged: merged.on(device))]
    if device.type != "cpu":
        host = torch.device("cpu")
        limit = settings.merged_host_bytes
        tiers.append(Tier("merged, host", limit, "merged_host_bytes", lambda merged: merged.on(host, pinned=True)))
    return tiers
