"""Adapters that requests wait for, loaded beside the steps of the engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from .. import cores
from ..errors import AdapterHubError, EngineStopped


class Loader:
    """Brings adapters in threads of its own, which compute with one core each, and says what became of each.

    Args:
        bring: makes the adapter of a key resident.
        max_loads: how many at once.
        tell: takes the key of each, and the error of one that could not be brought; called in those threads.
    """

    def __init__(
        self, bring: Callable[[str], None], max_loads: int, tell: Callable[[str, AdapterHubError | None], None]
    ) -> None:
        self._bring = bring
        self._tell = tell
        self._threads = ThreadPoolExecutor(max_loads, "adapter-hub-load", cores.use_one)

    def load(self, key: str) -> None:
        """Begin with an adapter, from any thread."""
        self._threads.submit(self._run, key)

    def close(self) -> None:
        """Wait for what has begun."""
        self._threads.shutdown(wait=True)

    def _run(self, key: str) -> None:
        error: AdapterHubError | None = None
        try:
            self._bring(key)
        except AdapterHubError as refused:
            error = refused
        except Exception as failure:
            error = EngineStopped(f"adapter {key!r} could not be loaded: {type(failure).__name__}: {failure}.")
            error.__cause__ = failure
        self._tell(key, error)
