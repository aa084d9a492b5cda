"""Runs of batches that one adapter had to itself. Plain bookkeeping, no tensors."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Runs:
    """Counts, by adapter, the batches since the last one that it shared with another. Safe from any thread.

    Args:
        length: of the run that makes an adapter worth merging.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def whole(self, digest: str) -> bool:
        """Count a batch that an adapter had to itself; True where this completes a run, and the next one begins."""
        with self._lock:
            count = self._counts.get(digest, 0) + 1
            complete = count >= self.length
            self._counts[digest] = 0 if complete else count
            return complete

    def shared(self, digests: Iterable[str]) -> None:
        """A batch had rows of each of these adapters: their runs end."""
        if self._counts:  # nothing counts where nobody asks, so a batch costs nothing
            with self._lock:
                for digest in digests:
                    self._counts.pop(digest, None)

    def forget(self, digest: str) -> None:
        """An adapter has gone."""
        self.shared([digest])
