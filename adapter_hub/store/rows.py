"""Reading and changing the registry's rows. Each function is a step of its caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import AdapterInUse, NotRegistered, RequestError
from .info import AdapterInfo
from .records import EACH, FACTS, TAGGED, from_row, read_defaults, select, to_facts
from .reference import Reference

MAX_NAMED = 5
_EACH = select()
_ONE = "WHERE name = ? AND version = ?"


def find(db: sqlite3.Connection, asked: Reference) -> AdapterInfo:
    """The version that a reference stands for.

    Raises:
        NotRegistered: there is none; the message names some that there are.
    """
    values: list[Any] = [asked.name]
    if asked.version is not None:
        condition = "v.version = ?"
        values.append(asked.version)
    elif asked.alias is not None:
        condition = "v.version = (SELECT version FROM aliases WHERE name = n.name AND alias = ?)"
        values.append(asked.alias)
    else:
        condition = "v.version = n.current"
    row = db.execute(f"{_EACH} WHERE n.name = ? AND {condition}", values).fetchone()
    if row is None:
        raise _missing(db, asked)
    return from_row(row)


def find_versions(db: sqlite3.Connection, name: str) -> list[AdapterInfo]:
    """All versions of a name, in the order in which they came.

    Raises:
        NotRegistered: there is no such name.
    """
    rows = db.execute(f"{_EACH} WHERE n.name = ? ORDER BY v.version", (name,)).fetchall()
    if not rows:
        raise _missing(db, Reference(name))
    return [from_row(row) for row in rows]


def find_page(
    db: sqlite3.Connection, tag: str | None, after: Reference | None, limit: int | None, *, all_versions: bool
) -> list[AdapterInfo]:
    """Versions in the order of names and numbers, from the one after ``after`` on."""
    conditions: list[str] = []
    values: list[Any] = []
    if tag is not None:
        conditions.append("t.tag = ?")
        values.append(tag)
    if after is not None and all_versions and after.version is not None:
        conditions.append("(v.name, v.version) > (?, ?) AND n.name >= ?")
        values += [after.name, after.version, after.name]
    elif after is not None:
        conditions.append("n.name > ?")
        values.append(after.name)
    if not all_versions:
        conditions.append("v.version = n.current")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    order = "n.name, v.version" if tag is None else "t.name, t.version"
    query = f"{select(EACH if tag is None else TAGGED)} {where} ORDER BY {order} LIMIT ?"
    return [from_row(row) for row in db.execute(query, (*values, -1 if limit is None else limit)).fetchall()]


def find_previous(db: sqlite3.Connection, name: str) -> AdapterInfo:
    """The version before the current one.

    Raises:
        NotRegistered: there is no such name.
        RequestError: the current version is the first that is left.
    """
    current = find(db, Reference(name))
    query = f"{_EACH} WHERE n.name = ? AND v.version < ? ORDER BY v.version DESC LIMIT 1"
    row = db.execute(query, (name, current.version)).fetchone()
    if row is None:
        raise RequestError(
            f"no version of adapter {name!r} comes before {current.key}, its current one.",
            hint=f"Versions: {_some(info.key for info in find_versions(db, name))}.",
        )
    return from_row(row)


def record(db: sqlite3.Connection, info: AdapterInfo) -> int:
    """Write what was proven: over the version that has this content, or as the next version; gives its number."""
    facts = to_facts(info)
    same = "SELECT version FROM versions WHERE name = ? AND digest = ?"
    known = db.execute(same, (info.name, info.digest)).fetchone()
    if known is None:
        return _record_next(db, info, facts)
    version: int = known["version"]
    del facts["digest"], facts["registered_at"]  # that of the first time stays
    changes = ", ".join(f"{column} = ?" for column in facts)
    db.execute(f"UPDATE versions SET {changes} {_ONE}", (*facts.values(), info.name, version))
    if info.tags:
        _set_tags(db, info.name, version, info.tags)
    if info.defaults:
        set_defaults(db, info.name, version, info.defaults)
    return version


def _record_next(db: sqlite3.Connection, info: AdapterInfo, facts: dict[str, Any]) -> int:
    name = info.name
    of_current = "SELECT tag FROM names n JOIN tags t ON t.name = n.name AND t.version = n.current WHERE n.name = ?"
    tags = info.tags or [row["tag"] for row in db.execute(of_current, (name,))]
    defaults = info.defaults or _current_defaults(db, name)
    db.execute(
        "INSERT INTO numbers (name, highest) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET highest = highest + 1",
        (name,),
    )
    version: int = db.execute("SELECT highest FROM numbers WHERE name = ?", (name,)).fetchone()["highest"]
    db.execute(
        "INSERT INTO names (name, current) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET current = excluded.current",
        (name, version),
    )
    marks = ", ".join("?" * (2 + len(FACTS)))
    columns = ", ".join(("name", "version", *facts))
    db.execute(f"INSERT INTO versions ({columns}) VALUES ({marks})", (name, version, *facts.values()))
    _set_tags(db, name, version, tags)
    set_defaults(db, name, version, defaults)
    return version


def _current_defaults(db: sqlite3.Connection, name: str) -> dict[str, Any]:
    query = "SELECT defaults FROM names n JOIN versions v ON v.name = n.name AND v.version = n.current WHERE n.name = ?"
    row = db.execute(query, (name,)).fetchone()
    return {} if row is None else read_defaults(row["defaults"])


def set_defaults(db: sqlite3.Connection, name: str, version: int, defaults: Mapping[str, Any]) -> None:
    """Write what requests to a version have where they do not say."""
    db.execute(f"UPDATE versions SET defaults = ? {_ONE}", (json.dumps(dict(defaults)), name, version))


def _set_tags(db: sqlite3.Connection, name: str, version: int, tags: Iterable[str]) -> None:
    db.execute(f"DELETE FROM tags {_ONE}", (name, version))
    rows = [(name, version, tag) for tag in set(tags)]
    db.executemany("INSERT INTO tags (name, version, tag) VALUES (?, ?, ?)", rows)


def set_pin(db: sqlite3.Connection, asked: Reference, *, pinned: bool) -> AdapterInfo:
    """Pin or unpin what ``asked`` names, a name or one version.

    Raises:
        NotRegistered: there is none.
    """
    found = find(db, asked)
    if not asked.is_name:
        db.execute(f"UPDATE versions SET pinned = ? {_ONE}", (pinned, found.name, found.version))
    else:
        db.execute("UPDATE names SET pinned = ? WHERE name = ?", (pinned, found.name))
        if not pinned:
            db.execute("UPDATE versions SET pinned = 0 WHERE name = ?", (found.name,))
    return find(db, Reference(found.name, found.version))


def delete(db: sqlite3.Connection, asked: Reference) -> list[AdapterInfo]:
    """Take out a name with all that it has, or one version; gives back the versions that are gone.

    Raises:
        NotRegistered: there is none.
        AdapterInUse: an alias stands for that version.
    """
    if asked.is_name:
        gone = find_versions(db, asked.name)
        db.execute("DELETE FROM names WHERE name = ?", (asked.name,))
        return gone
    found = find(db, asked)
    if found.aliases:
        raise AdapterInUse(
            f"{found.key} is what {found.name}:{found.aliases[0]} stands for.",
            hint="Let the alias stand for another version, or take it away, then remove this one.",
        )
    db.execute(f"DELETE FROM versions {_ONE}", (found.name, found.version))
    if found.current:
        newest = "(SELECT max(version) FROM versions WHERE name = names.name)"
        if db.execute("SELECT 1 FROM versions WHERE name = ?", (found.name,)).fetchone() is None:
            db.execute("DELETE FROM names WHERE name = ?", (found.name,))
        else:
            db.execute(f"UPDATE names SET current = {newest} WHERE name = ?", (found.name,))
    return [found]


def add_uses(db: sqlite3.Connection, uses: Sequence[tuple[str, int, int, str]]) -> None:
    """Add to versions, each (name, version, uses, time of the last one)."""
    db.executemany(
        "UPDATE versions SET uses = uses + ?, last_used_at = max(?, ifnull(last_used_at, '')) " + _ONE,
        [(count, last, name, version) for name, version, count, last in uses],
    )


def _missing(db: sqlite3.Connection, asked: Reference) -> NotRegistered:
    known = [row["name"] for row in db.execute("SELECT name FROM names ORDER BY name LIMIT ?", (MAX_NAMED + 1,))]
    name = asked.name
    if db.execute("SELECT 1 FROM names WHERE name = ?", (name,)).fetchone() is None:
        return NotRegistered(f"no adapter is registered as {name!r}.", hint=f"Registered: {_some(known)}.")
    versions = find_versions(db, name)
    current = next(info.key for info in versions if info.current)
    if asked.version is not None:
        hint = f"There are {_some(info.key for info in reversed(versions))}; {name!r} alone is {current}."
        return NotRegistered(f"adapter {name!r} has no version {asked.version}.", hint=hint)
    aliases = _some(f"{name}:{alias}" for info in versions for alias in info.aliases)
    hint = f"Aliases: {aliases}; {name!r} alone is {current}."
    return NotRegistered(f"adapter {name!r} has no alias {asked.alias!r}.", hint=hint)


def _some(words: Iterable[str]) -> str:
    """The first few of them, in a sentence."""
    shown = list(words)
    return ", ".join(shown[:MAX_NAMED]) + (" and more" if len(shown) > MAX_NAMED else "") or "none"
