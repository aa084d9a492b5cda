"""The registry: which adapters there are, by name, in SQLite."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..errors import NameTaken, NotRegistered, RegistryError
from .info import AdapterInfo

SCHEMA_VERSION = 2
_LISTS = ("ranks", "tags", "warnings")
_TABLES = ("options",)
_COLUMNS = tuple(entry.name for entry in fields(AdapterInfo) if entry.name != "resident")
_TYPES = {"sites": "INTEGER NOT NULL", "bytes": "INTEGER NOT NULL", "revision": "TEXT", "base_name": "TEXT"}


class Registry:
    """Adapters by name. Every method is one transaction and may be called from any thread.

    Args:
        path: the file, made with its folders where it does not exist; None keeps it in memory.

    Raises:
        RegistryError: the file is no registry, cannot be opened, or is of a newer version.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._lock = threading.Lock()
        try:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            # One connection behind one lock: SQLite in memory lives and dies with its connection.
            self._db = sqlite3.connect(self.path or ":memory:", check_same_thread=False, timeout=10)
            self._db.row_factory = sqlite3.Row
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise RegistryError(
                f"the registry {self.path} cannot be opened: {error}.",
                hint="Move the file away to start an empty one, or name another with --registry.",
            ) from error

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            self._db.close()
            raise RegistryError(
                f"the registry {self.path} has schema {version}, this version knows {SCHEMA_VERSION}.",
                hint="Update adapter_hub, or name another registry with --registry.",
            )
        foreign = not version and self._db.execute("SELECT 1 FROM sqlite_master").fetchone() is not None
        if foreign:
            self._db.close()
            raise RegistryError(
                f"{self.path} is another program's database.", hint="Name another registry with --registry."
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        columns = ", ".join(
            f"{name} {'TEXT PRIMARY KEY' if name == 'name' else _TYPES.get(name, 'TEXT NOT NULL')}" for name in _COLUMNS
        )
        with self._db:
            self._db.execute(f"CREATE TABLE IF NOT EXISTS adapters ({columns})")
            if version == 1:
                self._db.execute("ALTER TABLE adapters ADD COLUMN options TEXT NOT NULL DEFAULT '{}'")
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                with self._db:
                    yield self._db
            except sqlite3.Error as error:
                raise RegistryError(
                    f"the registry {self.path or 'in memory'} failed: {error}.",
                    hint="Nothing of this step was kept. Check the file's rights and the disk's space.",
                ) from error

    def add(self, info: AdapterInfo) -> AdapterInfo:
        """Record an adapter, and give back what stands recorded.

        The same content under its name again keeps the time of its first registration, and its tags unless
        new ones are given.

        Raises:
            NameTaken: the name stands for other content.
        """
        with self._transaction() as db:
            row = db.execute("SELECT * FROM adapters WHERE name = ?", (info.name,)).fetchone()
            if row is not None:
                known = _from_row(row)
                if known.digest != info.digest:
                    raise NameTaken(
                        f"the name {info.name!r} stands for {known.source} ({known.digest[:12]}).",
                        hint="Remove it first, or choose another name.",
                    )
                info = replace(info, registered_at=known.registered_at, tags=info.tags or known.tags)
            marks = ", ".join("?" * len(_COLUMNS))
            db.execute(f"INSERT OR REPLACE INTO adapters VALUES ({marks})", _to_row(info))
        return info

    def get(self, name: str) -> AdapterInfo:
        """The adapter of this name.

        Raises:
            NotRegistered: there is none; the message names some that there are.
        """
        with self._transaction() as db:
            row = db.execute("SELECT * FROM adapters WHERE name = ?", (name,)).fetchone()
            if row is None:
                known = db.execute("SELECT name FROM adapters ORDER BY name LIMIT 5").fetchall()
                names = ", ".join(known_row["name"] for known_row in known) or "none"
                raise NotRegistered(f"no adapter is registered as {name!r}.", hint=f"Registered: {names}.")
        return _from_row(row)

    def __contains__(self, name: str) -> bool:
        with self._transaction() as db:
            return db.execute("SELECT 1 FROM adapters WHERE name = ?", (name,)).fetchone() is not None

    def list(self, tag: str | None = None) -> list[AdapterInfo]:
        """All adapters by name, or those with a tag."""
        with self._transaction() as db:
            rows = db.execute("SELECT * FROM adapters ORDER BY name").fetchall()
        infos = [_from_row(row) for row in rows]
        return infos if tag is None else [info for info in infos if tag in info.tags]

    def remove(self, name: str) -> None:
        """Forget an adapter; its files stay.

        Raises:
            NotRegistered: there is none of this name.
        """
        self.get(name)
        with self._transaction() as db:
            db.execute("DELETE FROM adapters WHERE name = ?", (name,))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _to_row(info: AdapterInfo) -> tuple[Any, ...]:
    values = {name: getattr(info, name) for name in _COLUMNS}
    return tuple(json.dumps(value) if name in (*_LISTS, *_TABLES) else value for name, value in values.items())


def _from_row(row: sqlite3.Row) -> AdapterInfo:
    values: dict[str, Any] = {name: row[name] for name in _COLUMNS}
    values |= {name: tuple(json.loads(row[name])) for name in _LISTS}
    values |= {name: json.loads(row[name]) for name in _TABLES}
    return AdapterInfo(**values)
