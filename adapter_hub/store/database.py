"""One SQLite file, shared with other threads and processes: who may read and write it when."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import RegistryError
from .schema import prepare

BUSY_SECONDS = 10.0
_HINTS = {
    sqlite3.SQLITE_BUSY: "Another process has held it for too long; nothing was changed, try again.",
    sqlite3.SQLITE_LOCKED: "Another process has held it for too long; nothing was changed, try again.",
    sqlite3.SQLITE_FULL: "Nothing of this step was kept. Make room on the disk.",
    sqlite3.SQLITE_READONLY: "Nothing was changed. Check the rights of the file and of its folder.",
    sqlite3.SQLITE_NOTADB: "It is left as it is. Name another registry with --registry.",
    sqlite3.SQLITE_CORRUPT: "It is left as it is. Copy it before anything else; sqlite3's '.recover' saves what can "
    "be read. Move it away to start an empty one, or name another with --registry.",
}
_HINT = "Nothing of this step was kept. Check the file's rights and the disk's space, or name another with --registry."


class Database:
    """A file in SQLite's WAL mode, or a database in memory. Safe from any thread.

    There is one connection to read with and one to write with, so that whoever reads never waits for whoever
    writes, be it this process or another. In memory there can be only one, which does both.

    Args:
        path: the file, made with its folders where it does not exist; None keeps it in memory.

    Raises:
        RegistryError: the file is no registry, cannot be opened, or is of a newer version.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._ends = 0  # of transactions
        self._writing = threading.RLock()
        self._reading = threading.RLock() if path is not None else self._writing
        opened: list[sqlite3.Connection] = []
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            opened.append(self._connect())
            prepare(opened[0], path)
            if path is not None:
                opened.append(self._connect())
                opened[1].execute("PRAGMA query_only = ON")
        except BaseException as error:
            for connection in opened:
                connection.close()
            if isinstance(error, sqlite3.Error | OSError | ValueError):
                raise self._failure("cannot be opened", error) from error
            raise
        self._writer, self._reader = opened[0], opened[-1]

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.path or ":memory:", check_same_thread=False, timeout=BUSY_SECONDS, isolation_level=None
        )
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys = ON")
        return db

    def stamp(self) -> int:
        """A number that is another one after any commit, be it of this process or another; within ``reading``."""
        if self._reader is self._writer:
            return self._ends
        found: int = self._reader.execute("PRAGMA data_version").fetchone()[0]
        return found

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection to read with. Each statement sees the file as it was at one moment.

        Raises:
            RegistryError: SQLite failed, or what it found makes no sense.
        """
        with self._reading:
            try:
                yield self._reader
            except (sqlite3.Error, ValueError) as error:
                raise self._failure("failed", error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection to write with, in a transaction that is kept unless the block raises.

        Raises:
            RegistryError: SQLite failed, or others wrote for longer than ``BUSY_SECONDS``.
        """
        with self._writing:
            try:
                # At once with the right to write: a reader that became a writer could find itself overtaken.
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield self._writer
                    self._writer.execute("COMMIT")
                except BaseException:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
                    raise
                finally:
                    self._ends += 1
            except sqlite3.Error as error:
                raise self._failure("failed", error) from error

    def close(self) -> None:
        """Close the file. What is asked afterwards fails."""
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()

    def _failure(self, what: str, error: Exception) -> RegistryError:
        garbled = sqlite3.SQLITE_CORRUPT if isinstance(error, ValueError) else 0
        code = getattr(error, "sqlite_errorcode", garbled) & 0xFF
        hint = _HINTS.get(code, _HINT)
        if what == "cannot be opened" and code not in _HINTS:
            hint = "Move the file away to start an empty one, or name another with --registry."
            if isinstance(error, OSError):
                hint = "Check the rights of the folder and the disk's space, or name another place with --registry."
        return RegistryError(f"the registry {self.path or 'in memory'} {what}: {error}.", hint=hint)
