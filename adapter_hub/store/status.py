"""What running hubs say of themselves beside their registry's file, for other processes to read."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


class StatusFile:
    """A file that holds this hub's latest word, and a lock that tells that it is still running. Safe from any thread.

    A file that cannot be written is done without: nobody's answers depend on it.

    Args:
        registry: the registry's file; None says nothing to anybody.
    """

    def __init__(self, registry: Path | None) -> None:
        self._path = None if registry is None else _folder(registry) / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
        self._lock: FileLock | None = None
        self._writing = threading.Lock()

    def write(self, status: Mapping[str, Any]) -> None:
        """Replace what the file says; ``status`` is plain values."""
        with self._writing, suppress(OSError):
            if self._path is None:
                return
            if self._lock is None:
                self._path.parent.mkdir(exist_ok=True)
                lock = FileLock(self._path.with_suffix(".lock"), thread_local=False)
                lock.acquire(blocking=False)
                self._lock = lock
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps({"pid": os.getpid(), **status}), encoding="utf-8")
            fresh.replace(self._path)

    def close(self) -> None:
        """Take the file away; nothing is written any more."""
        with self._writing:
            if self._path is not None:
                if self._lock is not None:
                    self._path.unlink(missing_ok=True)
                    self._lock.release()
                with suppress(OSError):  # other hubs are still in there, or nobody ever was
                    for left in (".lock", ".new"):  # a full disk may have stopped it half-way
                        self._path.with_suffix(left).unlink(missing_ok=True)
                    self._path.parent.rmdir()
            self._path = None


def running(registry: Path) -> list[dict[str, Any]]:
    """The latest words of all hubs that run on a registry's file; what a killed one has left is cleared away."""
    found = []
    for path in sorted(_folder(registry).glob("*.json")):
        lock = FileLock(path.with_suffix(".lock"), thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            with suppress(OSError, ValueError):  # it may end, and its file go, at any moment
                found.append(json.loads(path.read_text(encoding="utf-8")))
        except OSError:
            continue  # a folder of somebody else's, where no lock can be had
        else:
            path.unlink(missing_ok=True)
            lock.release()
            path.with_suffix(".lock").unlink(missing_ok=True)
    return found


def _folder(registry: Path) -> Path:
    return registry.with_name(registry.name + ".running")
