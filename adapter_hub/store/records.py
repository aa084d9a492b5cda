"""Rows of the registry's tables, as what is known of an adapter."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from typing import Any

from .info import AdapterInfo

# What an adapter is, as it was proven; the other columns are the registry's own.
FACTS = (
    "digest",
    "source",
    "revision",
    "folder",
    "format",
    "variant",
    "sites",
    "ranks",
    "bytes",
    "base_name",
    "base_fingerprint",
    "warnings",
    "options",
    "registered_at",
)
_LISTS = ("ranks", "warnings")
_JSON = (*_LISTS, "options")
_BIAS = "logit_bias"
_BETWEEN_TAGS = "\x1f"  # no tag holds it: tags are printable
# SQLite keeps to the order of a CROSS JOIN: a page begins at its first name, whatever the planner makes of it.
EACH = "names n CROSS JOIN versions v ON v.name = n.name"
TAGGED = (
    "tags t CROSS JOIN names n ON n.name = t.name CROSS JOIN versions v ON v.name = t.name AND v.version = t.version"
)


def select(among: str = EACH) -> str:
    """A query for whole adapters, up to its conditions on ``n`` (the name) and ``v`` (the version)."""
    return f"""
        SELECT v.name, v.version, {", ".join(f"v.{name}" for name in FACTS)}, v.defaults, v.uses, v.last_used_at,
            n.current = v.version AS current,
            v.pinned OR (n.pinned AND n.current = v.version) AS pinned,
            (SELECT group_concat(tag, '{_BETWEEN_TAGS}') FROM tags
                WHERE name = v.name AND version = v.version) AS tags,
            (SELECT group_concat(alias, ' ') FROM aliases
                WHERE name = v.name AND version = v.version) AS aliases
        FROM {among}
    """


def to_facts(info: AdapterInfo) -> dict[str, Any]:
    """Values of the columns that say what an adapter is."""
    values = {name: getattr(info, name) for name in FACTS}
    return {name: json.dumps(value) if name in _JSON else value for name, value in values.items()}


def from_row(row: sqlite3.Row) -> AdapterInfo:
    """One row of what ``select`` asks for."""
    values: dict[str, Any] = dict(zip(row.keys(), row, strict=True))
    for name in _LISTS:
        values[name] = tuple(json.loads(values[name]))
    values["options"] = json.loads(values["options"])
    values["defaults"] = read_defaults(values["defaults"])
    values["tags"] = _words(values["tags"], _BETWEEN_TAGS)
    values["aliases"] = _words(values["aliases"], " ")
    values["current"], values["pinned"] = bool(values["current"]), bool(values["pinned"])
    return AdapterInfo(**values)


def read_defaults(text: str) -> dict[str, Any]:
    """Defaults of requests as they are written; JSON makes texts of the token ids in a bias."""
    defaults: dict[str, Any] = json.loads(text)
    if _BIAS in defaults:
        defaults[_BIAS] = {int(token): bias for token, bias in defaults[_BIAS].items()}
    return defaults


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as the registry writes a moment."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _words(joined: str | None, between: str) -> tuple[str, ...]:
    return tuple(sorted(joined.split(between))) if joined else ()
