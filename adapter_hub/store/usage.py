"""Uses of adapters, counted in memory and written now and then, so that no request waits for a disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from ..errors import RegistryError

FLUSH_SECONDS = 10.0
Uses = Mapping[str, tuple[int, float]]

_LOG = logging.getLogger(__name__)


class Usage:
    """Counts uses by key until they are handed on: some seconds after the first of them, and at ``close``.

    Safe from any thread. A write that fails is tried again with the next ones, for a count is no reason to
    refuse a request.

    Args:
        write: takes, for each key, how many uses there were and when the last one was (seconds since 1970).
        interval: seconds that a use waits at most.
    """

    def __init__(self, write: Callable[[Uses], None], interval: float = FLUSH_SECONDS) -> None:
        self._write = write
        self._interval = interval
        self._pending: dict[str, tuple[int, float]] = {}
        self._taken: dict[str, tuple[int, float]] = {}  # those that are being written
        self._counting = threading.Lock()
        self._flushing = threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = False

    def count(self, keys: Iterable[str]) -> None:
        """Count one use of each key, as often as it occurs."""
        now = time.time()
        with self._counting:
            for key in keys:
                self._pending[key] = (self._pending[key][0] + 1 if key in self._pending else 1, now)
            if self._pending and self._timer is None and not self._closed:
                self._timer = threading.Timer(self._interval, self.flush)
                self._timer.name, self._timer.daemon = "adapter-hub-uses", True
                self._timer.start()

    def pending(self, key: str) -> tuple[int, float] | None:
        """Uses that are not written yet, and when the last one was."""
        if not self._pending and not self._taken:
            return None
        with self._counting:
            return _sum(self._taken.get(key), self._pending.get(key))

    def flush(self) -> None:
        """Write what is pending."""
        with self._flushing:
            with self._counting:
                self._taken, self._pending, self._timer = self._pending, {}, None
            try:
                if self._taken:
                    self._write(self._taken)
            except RegistryError as error:
                _LOG.warning("uses of %d adapters could not be written: %s", len(self._taken), error)
                with self._counting:
                    for key, uses in self._taken.items():
                        self._pending[key] = _sum(self._pending.get(key), uses) or uses
                    self._taken = {}
            finally:
                self._taken = {}

    def close(self) -> None:
        """Write what is pending, for the last time."""
        with self._counting:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
        self.flush()


def _sum(one: tuple[int, float] | None, other: tuple[int, float] | None) -> tuple[int, float] | None:
    if one is None or other is None:
        return one or other
    return one[0] + other[0], max(one[1], other[1])
