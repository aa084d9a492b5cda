"""Tiers of memory: what each may hold, and what has come and gone there. Plain bookkeeping, no tensors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True)
class Tier(Generic[V]):
    """One place that entries of a cache can lie in.

    Args:
        name: what reports call it.
        limit: bytes that its entries may take together.
        setting: the setting that this limit comes from, for messages.
        bring: makes, of a value that lies in another tier, the one that stands for it here.
    """

    name: str
    limit: int
    setting: str
    bring: Callable[[V], V]


@dataclass(frozen=True)
class TierReport:
    """What a tier holds, and what has happened there since the hub was opened.

    Args:
        name: of the tier.
        limit: bytes it may hold; None where nothing limits it.
        used: bytes it holds.
        entries: how many things these are.
        hits: uses that found what they wanted here.
        misses: uses that did not.
        loads: things that came here.
        load_seconds: how long all loads took together.
        evictions: things that had to go because their bytes were wanted.
        eviction_seconds: how long that took, with the copies to the tier below.
    """

    name: str
    limit: int | None
    used: int
    entries: int
    hits: int = 0
    misses: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    evictions: int = 0
    eviction_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


class Counters:
    """What has happened at one tier. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hits = self._misses = self._loads = self._evictions = 0
        self._load_seconds = self._eviction_seconds = 0.0

    def hit(self, count: int = 1) -> None:
        """So many uses found what they wanted."""
        with self._lock:
            self._hits += count

    def miss(self, count: int = 1) -> None:
        """So many uses did not."""
        with self._lock:
            self._misses += count

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Count the block as one load with its time, unless it fails."""
        start = time.perf_counter()
        yield
        self.loaded(time.perf_counter() - start)

    def loaded(self, seconds: float) -> None:
        """Something came, and took so long."""
        with self._lock:
            self._loads += 1
            self._load_seconds += seconds

    def evicted(self, seconds: float) -> None:
        """Something had to go, and took so long."""
        with self._lock:
            self._evictions += 1
            self._eviction_seconds += seconds

    def report(self, name: str, *, limit: int | None, used: int, entries: int) -> TierReport:
        """The counts beside what the tier holds now."""
        with self._lock:
            return TierReport(
                name,
                limit,
                used,
                entries,
                self._hits,
                self._misses,
                self._loads,
                self._load_seconds,
                self._evictions,
                self._eviction_seconds,
            )
