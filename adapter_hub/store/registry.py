"""The registry: which adapters there are, by name and version, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import NotRegistered, RequestError
from . import rows
from .database import Database
from .info import AdapterInfo
from .keys import Keys
from .records import iso_time
from .reference import Reference, check_alias, check_name, check_tags, parse_name
from .usage import FLUSH_SECONDS, Usage, Uses

MAX_KNOWN = 20_000


class Registry:
    """Adapters by name and version. Every method may be called from any thread, and is whole or without effect.

    Several processes may share the file; each sees at its next call what another has changed.

    Args:
        path: the file, made with its folders where it does not exist; None keeps it in memory.
        flush_seconds: how long a use of an adapter may wait to be written.

    Raises:
        RegistryError: the file is no registry, cannot be opened, or is of a newer version.
    """

    def __init__(self, path: str | Path | None = None, *, flush_seconds: float = FLUSH_SECONDS) -> None:
        self.path = None if path is None else Path(path)
        self._database = Database(self.path)
        self._usage = Usage(self._write_uses, flush_seconds)
        self.keys = Keys(self._database, flush_seconds)
        # What was looked up, by reference, for as long as nobody changes the file: every request asks.
        self._known: dict[str, AdapterInfo] = {}
        self._stamp = -1

    def close(self) -> None:
        """Write the uses that are not written yet, and close the file."""
        self._usage.close()
        self.keys.close()
        self._database.close()
        self._known.clear()

    def resolve(self, references: Sequence[str | None]) -> list[AdapterInfo | None]:
        """The version that each reference stands for now; None, the base, stays None.

        Made for every request: it costs a few microseconds. Uses that are not written yet are left out.

        Raises:
            NotRegistered: there is none; the message names some that there are.
        """
        with self._database.reading() as db:
            stamp = self._database.stamp()
            if stamp != self._stamp:
                self._known.clear()
                self._stamp = stamp
            return [None if text is None else self._look_up(db, text) for text in references]

    def names_of(self, digest: str) -> tuple[str, ...]:
        """The keys of the versions that have this content."""
        with self._database.reading() as db:
            found = db.execute("SELECT name, version FROM versions WHERE digest = ? ORDER BY name, version", (digest,))
            return tuple(f"{name}@{version}" for name, version in found.fetchall())

    def totals(self) -> tuple[int, int]:
        """How many versions there are, and the bytes of their tensors on disk."""
        with self._database.reading() as db:
            count, size = db.execute("SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM versions").fetchone()
        return count, size

    def get(self, reference: str) -> AdapterInfo:
        """The version that a reference stands for.

        Raises:
            NotRegistered: there is none; the message names some that there are.
        """
        with self._database.reading() as db:
            return self._with_pending(rows.find(db, Reference.parse(reference)))

    def knows(self, text: str) -> bool:
        """Whether a text refers to a name that is registered, even if not to a version that there is."""
        try:
            name = Reference.parse(text).name
        except NotRegistered:
            return False
        with self._database.reading() as db:
            return db.execute("SELECT 1 FROM names WHERE name = ?", (name,)).fetchone() is not None

    def versions(self, name: str) -> list[AdapterInfo]:
        """All versions of a name, in the order in which they came.

        Raises:
            NotRegistered: there is no such name.
        """
        name = parse_name(name)
        with self._database.reading() as db:
            return [self._with_pending(info) for info in rows.find_versions(db, name)]

    def previous(self, name: str) -> AdapterInfo:
        """The version before the current one.

        Raises:
            NotRegistered: there is no such name.
            RequestError: the current version is the first that is left.
        """
        name = parse_name(name)
        with self._database.reading() as db:
            return self._with_pending(rows.find_previous(db, name))

    def list(
        self, tag: str | None = None, *, all_versions: bool = False, after: str | None = None, limit: int | None = None
    ) -> Sequence[AdapterInfo]:
        """Adapters in the order of their names: the current version of each, or all versions.

        Args:
            tag: only those with this tag.
            all_versions: the versions that are not current too.
            after: only what comes after this name or, among all versions, after this version: where a page ended.
            limit: at most so many.

        Raises:
            NotRegistered: ``after`` can be no reference. It need not be registered.
            RequestError: ``limit`` is below 1.
        """
        if limit is not None and limit < 1:
            raise RequestError(f"a page of {limit} adapters shows nothing.", hint="Give a limit from 1.")
        begin = None if after is None else Reference.parse(after)
        with self._database.reading() as db:
            page = rows.find_page(db, tag, begin, limit, all_versions=all_versions)
        return [self._with_pending(info) for info in page]

    def add(self, info: AdapterInfo, *, pin: bool = False) -> AdapterInfo:
        """Record an adapter, and give back what stands recorded.

        Content that is new under its name makes the next version, which becomes the current one and takes over
        the tags and defaults of the one before unless it brings its own. Content that the name has already stays
        the version that it is, whether current or not: its folder, source and proof are those of the last time.

        Args:
            info: what was proven.
            pin: pin the name too.

        Raises:
            RequestError: its name or a tag cannot be one.
        """
        check_name(info.name)
        check_tags(info.tags)
        with self._database.writing() as db:
            version = rows.record(db, info)
            if pin:
                rows.set_pin(db, Reference(info.name), pinned=True)
            return self._with_pending(rows.find(db, Reference(info.name, version)))

    def rollback(self, name: str, version: int) -> AdapterInfo:
        """Make another version the current one, until the next one is registered.

        Raises:
            NotRegistered: there is no such name or version.
        """
        asked = Reference.parse(f"{parse_name(name)}@{version}")
        with self._database.writing() as db:
            rows.find(db, asked)
            db.execute("UPDATE names SET current = ? WHERE name = ?", (asked.version, asked.name))
            return rows.find(db, asked)

    def alias(self, name: str, alias: str, version: int | None = None) -> AdapterInfo:
        """Let ``name:alias`` stand for a version, by default the current one; gives that version back.

        An alias that stands for another version moves.

        Raises:
            NotRegistered: there is no such name or version.
            RequestError: ``alias`` cannot be one.
        """
        name = parse_name(name)
        asked = Reference.parse(name if version is None else f"{name}@{version}")
        check_alias(alias)
        with self._database.writing() as db:
            values = name, alias, rows.find(db, asked).version
            db.execute("INSERT OR REPLACE INTO aliases (name, alias, version) VALUES (?, ?, ?)", values)
            return rows.find(db, Reference(name, alias=alias))

    def unalias(self, name: str, alias: str) -> AdapterInfo:
        """Take an alias away; gives back the version that it stood for.

        Raises:
            NotRegistered: there is no such name or alias.
        """
        asked = Reference.parse(f"{parse_name(name)}:{alias}")
        with self._database.writing() as db:
            stood_for = rows.find(db, asked).version
            db.execute("DELETE FROM aliases WHERE name = ? AND alias = ?", (asked.name, alias))
            return rows.find(db, Reference(asked.name, stood_for))

    def pin(self, reference: str) -> AdapterInfo:
        """Pin an adapter. A name's pin is on whichever version is current, any other reference's on one version.

        Raises:
            NotRegistered: there is none.
        """
        with self._database.writing() as db:
            return rows.set_pin(db, Reference.parse(reference), pinned=True)

    def unpin(self, reference: str) -> AdapterInfo:
        """Take back the pin of one version or, given a name, every pin that the name and its versions have.

        Raises:
            NotRegistered: there is none.
        """
        with self._database.writing() as db:
            return rows.set_pin(db, Reference.parse(reference), pinned=False)

    def set_defaults(self, reference: str, changes: Mapping[str, Any]) -> AdapterInfo:
        """Change what requests to a version have where they do not say; None takes one away.

        Raises:
            NotRegistered: there is none.
        """
        asked = Reference.parse(reference)
        with self._database.writing() as db:
            found = rows.find(db, asked)
            changed = {**found.defaults, **changes}
            kept = {name: value for name, value in changed.items() if value is not None}
            rows.set_defaults(db, found.name, found.version, kept)
            return self._with_pending(replace(found, defaults=kept))

    def remove(self, reference: str) -> Sequence[AdapterInfo]:
        """Forget a name with all of its versions, or one version; files stay. Gives back what is gone.

        When the current version goes, the newest that is left becomes the current one. No number is given twice,
        not even after the whole name went.

        Raises:
            NotRegistered: there is none.
            AdapterInUse: an alias stands for that version.
            RequestError: the reference is an alias.
        """
        with self.removing(reference) as gone:
            return gone

    @contextmanager
    def removing(self, reference: str) -> Iterator[Sequence[AdapterInfo]]:
        """As ``remove``, if the block ends without an error: for what else has to go with it."""
        asked = Reference.parse(reference)
        if asked.alias is not None:
            raise RequestError(
                f"{reference!r} is an alias; what it stands for may have other names.",
                hint=f"Name the version, as in {asked.name}@1, or take the alias alone away with unalias.",
            )
        with self._database.writing() as db:
            yield rows.delete(db, asked)

    def count_uses(self, keys: Sequence[str | None]) -> None:
        """Count one use for each key of a version; None is the base, whose uses are not counted."""
        self._usage.count([key for key in keys if key is not None])

    def _look_up(self, db: sqlite3.Connection, text: str) -> AdapterInfo:
        info = self._known.get(text) if isinstance(text, str) else None
        if info is None:
            info = rows.find(db, Reference.parse(text))
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[text] = info
        return info

    def _write_uses(self, uses: Uses) -> None:
        written = []
        for key, (count, last) in uses.items():
            name, _, version = key.rpartition("@")
            written.append((name, int(version), count, iso_time(last)))
        with self._database.writing() as db:
            rows.add_uses(db, written)

    def _with_pending(self, info: AdapterInfo) -> AdapterInfo:
        pending = self._usage.pending(info.key)
        if pending is None:
            return info
        last = max(iso_time(pending[1]), info.last_used_at or "")
        return replace(info, uses=info.uses + pending[0], last_used_at=last)
