"""The registry's tables, and how older files become what they are now."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import RegistryError

SCHEMA_VERSION = 3
APPLICATION_ID = int.from_bytes(b"ahub", "big")
WAL_SECONDS = 10.0
_ELSEWHERE = "Name another registry with --registry."

# A name cannot be without its current version, nor an alias without the version it stands for: the constraints
# say so, and are checked when a transaction ends. Numbers outlive their names: no key ever means another content.
_TABLES = {
    "names": """(
        name TEXT PRIMARY KEY,
        current INTEGER NOT NULL,
        pinned INTEGER NOT NULL DEFAULT 0,
        FOREIGN KEY (name, current) REFERENCES versions (name, version) DEFERRABLE INITIALLY DEFERRED
    ) WITHOUT ROWID""",
    "versions": """(
        name TEXT NOT NULL REFERENCES names (name) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
        version INTEGER NOT NULL,
        digest TEXT NOT NULL,
        source TEXT NOT NULL,
        revision TEXT,
        folder TEXT NOT NULL,
        format TEXT NOT NULL,
        variant TEXT NOT NULL,
        sites INTEGER NOT NULL,
        ranks TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        base_name TEXT,
        base_fingerprint TEXT NOT NULL,
        warnings TEXT NOT NULL,
        options TEXT NOT NULL DEFAULT '{}',
        defaults TEXT NOT NULL DEFAULT '{}',
        registered_at TEXT NOT NULL,
        pinned INTEGER NOT NULL DEFAULT 0,
        uses INTEGER NOT NULL DEFAULT 0,
        last_used_at TEXT,
        PRIMARY KEY (name, version),
        UNIQUE (name, digest)
    )""",
    "tags": """(
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        tag TEXT NOT NULL,
        PRIMARY KEY (name, version, tag),
        FOREIGN KEY (name, version) REFERENCES versions (name, version) ON DELETE CASCADE
    ) WITHOUT ROWID""",
    "aliases": """(
        name TEXT NOT NULL REFERENCES names (name) ON DELETE CASCADE,
        alias TEXT NOT NULL,
        version INTEGER NOT NULL,
        PRIMARY KEY (name, alias),
        FOREIGN KEY (name, version) REFERENCES versions (name, version) DEFERRABLE INITIALLY DEFERRED
    ) WITHOUT ROWID""",
    "numbers": "(name TEXT PRIMARY KEY, highest INTEGER NOT NULL) WITHOUT ROWID",
    # A revoked key stays: what it was is on record, and nobody is let in because the last one went.
    "keys": """(
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        salt BLOB NOT NULL,
        hash BLOB NOT NULL,
        scopes TEXT NOT NULL,
        adapters TEXT NOT NULL,
        requests_per_minute INTEGER NOT NULL DEFAULT 0,
        tokens_per_minute INTEGER NOT NULL DEFAULT 0,
        concurrent INTEGER NOT NULL DEFAULT 0,
        created_at TEXT NOT NULL,
        expires_at TEXT,
        revoked_at TEXT,
        last_used_at TEXT
    ) WITHOUT ROWID""",
}
_KEY_NAMES = "CREATE UNIQUE INDEX keys_by_name ON keys (name) WHERE revoked_at IS NULL"
_STATEMENTS = (
    *(f"CREATE TABLE {name} {columns}" for name, columns in _TABLES.items()),
    "CREATE INDEX tags_by_word ON tags (tag, name, version)",
    _KEY_NAMES,
)


def prepare(db: sqlite3.Connection, path: Path | None) -> None:
    """Make a new file, or one of an older schema, what this version of the code reads.

    One transaction, so that a file is of the one schema or of the other whenever it is looked at.

    Raises:
        RegistryError: it is another program's file, was written by a newer version, or lacks a table; the file
            is left as it is.
    """
    _hold_ours(db, path)
    _enter_wal(db)
    if _number(db, "user_version") < SCHEMA_VERSION:
        db.execute("BEGIN IMMEDIATE")
        version = _hold_ours(db, path)  # again: another process may have been here while this one waited
        while version < SCHEMA_VERSION:
            version = _STEPS[version](db)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")


def _hold_ours(db: sqlite3.Connection, path: Path | None) -> int:
    version, tables = _number(db, "user_version"), {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    # Schema 1 wrote no application id.
    ours = _number(db, "application_id") == APPLICATION_ID or (version == 1 and "adapters" in tables)
    if tables and not ours:
        raise RegistryError(f"{path} is another program's database.", hint=_ELSEWHERE)
    if version > SCHEMA_VERSION:
        raise RegistryError(
            f"the registry {path} has schema {version}, this version knows {SCHEMA_VERSION}.",
            hint="Update adapter_hub, or name another registry with --registry.",
        )
    missing = sorted(_TABLES.keys() - tables) if version == SCHEMA_VERSION else []
    if missing:
        raise RegistryError(f"the registry {path} is damaged: it has no table {missing[0]!r}.", hint=_ELSEWHERE)
    return version if tables else 0


def _enter_wal(db: sqlite3.Connection) -> None:
    """Let readers and a writer work beside each other, from now on and for whoever opens the file."""
    until = time.monotonic() + WAL_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # SQLite does not wait here for another process that does the same, whatever its timeout.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _create(db: sqlite3.Connection) -> int:
    for statement in _STATEMENTS:
        db.execute(statement)
    return SCHEMA_VERSION


def _add_versions(db: sqlite3.Connection) -> int:
    """From schema 1, where a name stood for one content: each becomes version 1 of its name."""
    reached = _create(db)
    same = (
        "digest, source, revision, folder, format, variant, sites, ranks, bytes, base_name, base_fingerprint, "
        "warnings, registered_at"
    )
    db.execute("INSERT INTO names (name, current) SELECT name, 1 FROM adapters")
    db.execute("INSERT INTO numbers (name, highest) SELECT name, 1 FROM adapters")
    db.execute(f"INSERT INTO versions (name, version, {same}) SELECT name, 1, {same} FROM adapters")
    for name, tags in db.execute("SELECT name, tags FROM adapters").fetchall():
        rows = [(name, tag) for tag in json.loads(tags)]
        db.executemany("INSERT OR IGNORE INTO tags (name, version, tag) VALUES (?, 1, ?)", rows)
    db.execute("DROP TABLE adapters")
    return reached


def _add_keys(db: sqlite3.Connection) -> int:
    """From schema 2, which knew no API keys and no defaults of requests."""
    db.execute("ALTER TABLE versions ADD COLUMN defaults TEXT NOT NULL DEFAULT '{}'")
    db.execute(f"CREATE TABLE keys {_TABLES['keys']}")
    db.execute(_KEY_NAMES)
    return 3


def _number(db: sqlite3.Connection, pragma: str) -> int:
    value: int = db.execute(f"PRAGMA {pragma}").fetchone()[0]
    return value


# By the schema that a step begins with; each gives the one that it ends with. 0 is a file without tables.
_STEPS: dict[int, Callable[[sqlite3.Connection], int]] = {0: _create, 1: _add_versions, 2: _add_keys}
