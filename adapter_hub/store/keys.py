"""API keys: who may use a server for what. Of their secrets the registry's file holds hashes alone."""

from __future__ import annotations

import hmac
import json
import re
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..errors import NotRegistered, RequestError
from .database import Database
from .records import iso_time
from .usage import FLUSH_SECONDS, Usage, Uses

ADMIN, INFER = "admin", "infer"
SCOPES = (INFER, ADMIN)
LIMITS = ("requests_per_minute", "tokens_per_minute", "concurrent")
MARK = "ahk"
SECRET_BYTES = 32
MAX_NAME_LEN = 128
_ID = re.compile("[0-9a-f]{8}")


@dataclass(frozen=True, kw_only=True)
class KeyInfo:
    """What is known of one key; its secret is known to whoever was given it.

    Args:
        id: part of the secret that may be shown, by which it is found.
        name: what its owner is called.
        scopes: what it is for: ``infer``, ``admin``.
        adapters: patterns (as of file names) of the adapters that are there for it.
        requests_per_minute: 0 is any number; so of the other two limits.
        tokens_per_minute: of prompts and answers together.
        concurrent: requests at once.
        created_at: ISO 8601, UTC; so of the other moments.
        expires_at: from when on it opens nothing; None is never.
        revoked_at: when it was taken back.
        last_used_at: when a request last came with it. Two entries that differ only in use are equal.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    adapters: tuple[str, ...] = ("*",)
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent: int = 0
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = field(default=None, compare=False)

    @property
    def shown(self) -> str:
        """How the key begins: enough to tell it from others, and no use to anybody."""
        return f"{MARK}_{self.id}_..."

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


class Keys:
    """The keys in a registry's file. Safe from any thread; what other processes change is seen at the next call.

    Secrets are 256 random bits, which nobody guesses however fast they can be hashed, so one HMAC-SHA256 over a
    salt keeps them; the slow hashes that passwords need would only slow requests down.

    Args:
        database: the registry's.
        flush_seconds: how long a use of a key may wait to be written.
    """

    def __init__(self, database: Database, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._database = database
        self._usage = Usage(self._write_uses, flush_seconds)
        self._known: dict[str, tuple[KeyInfo, bytes, bytes]] = {}
        self._any = False
        self._stamp = -1

    def close(self) -> None:
        """Write the uses that are not written yet."""
        self._usage.close()

    def create(
        self,
        name: str,
        scopes: Sequence[str] = (INFER,),
        adapters: Sequence[str] = ("*",),
        *,
        requests_per_minute: int = 0,
        tokens_per_minute: int = 0,
        concurrent: int = 0,
        expires_at: float | None = None,
    ) -> tuple[KeyInfo, str]:
        """Make a key; gives it back with its secret, which is not to be had again.

        Args:
            expires_at: seconds since 1970.

        Raises:
            RequestError: a value is none that a key can have, or a key of this name is in force.
        """
        _check(name, scopes, adapters, (requests_per_minute, tokens_per_minute, concurrent))
        info = KeyInfo(
            id=secrets.token_hex(4),
            name=name,
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            adapters=tuple(dict.fromkeys(adapters)),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            concurrent=concurrent,
            created_at=iso_time(time.time()),
            expires_at=None if expires_at is None else iso_time(expires_at),
        )
        secret, salt = f"{MARK}_{info.id}_{secrets.token_urlsafe(SECRET_BYTES)}", secrets.token_bytes(16)
        row = info.as_dict() | {"salt": salt, "hash": _hash(salt, secret)}
        row |= {"scopes": json.dumps(info.scopes), "adapters": json.dumps(info.adapters)}
        with self._database.writing() as db:
            if db.execute("SELECT 1 FROM keys WHERE name = ? AND revoked_at IS NULL", (name,)).fetchone():
                raise RequestError(f"a key {name!r} is in force.", hint="Revoke it first, or give another name.")
            marks = ", ".join(f":{column}" for column in row)
            db.execute(f"INSERT INTO keys ({', '.join(row)}) VALUES ({marks})", row)
        return info, secret

    def list(self) -> Sequence[KeyInfo]:
        """All keys, those that were revoked too, in the order of their names and ages."""
        with self._database.reading() as db:
            found = db.execute("SELECT * FROM keys ORDER BY name, created_at, id").fetchall()
            return [self._with_pending(_info(row)) for row in found]

    def revoke(self, name: str) -> KeyInfo:
        """Take a key back, by its name or by the beginning that is shown of it.

        Raises:
            NotRegistered: no such key is in force.
        """
        by_id = name.removeprefix(f"{MARK}_").partition("_")[0]
        with self._database.writing() as db:
            query = "SELECT * FROM keys WHERE revoked_at IS NULL AND (name = ? OR id = ?)"
            row = db.execute(query, (name, by_id)).fetchone()
            if row is None:
                raise NotRegistered(f"no key {name!r} is in force.", hint="adapter-hub keys list tells which are.")
            db.execute("UPDATE keys SET revoked_at = ? WHERE id = ?", (iso_time(time.time()), row["id"]))
            return _info(db.execute("SELECT * FROM keys WHERE id = ?", (row["id"],)).fetchone())

    @property
    def exist(self) -> bool:
        """Whether a key was ever made, be it revoked by now."""
        with self._database.reading() as db:
            self._refresh(db)
            return self._any

    def find(self, secret: str) -> KeyInfo | None:
        """The key in force that has this secret. Made for every request: it costs a few microseconds."""
        mark, _, rest = secret.partition("_")
        key_id = rest.partition("_")[0]
        with self._database.reading() as db:
            self._refresh(db)
            found = self._known.get(key_id) or self._look_up(db, key_id)
        if mark != MARK or found is None:
            return None
        info, salt, expected = found
        if not hmac.compare_digest(_hash(salt, secret), expected) or info.revoked_at is not None:
            return None
        if info.expires_at is not None and datetime.fromisoformat(info.expires_at) <= datetime.now(UTC):
            return None
        self._usage.count([info.id])
        return info

    def _refresh(self, db: sqlite3.Connection) -> None:
        stamp = self._database.stamp()
        if stamp != self._stamp:
            self._known.clear()
            self._any = db.execute("SELECT 1 FROM keys LIMIT 1").fetchone() is not None
            self._stamp = stamp

    def _look_up(self, db: sqlite3.Connection, key_id: str) -> tuple[KeyInfo, bytes, bytes] | None:
        row = db.execute("SELECT * FROM keys WHERE id = ?", (key_id,)).fetchone() if _ID.fullmatch(key_id) else None
        if row is None:
            return None  # and is asked again: whoever tries keys must not fill the memory
        self._known[key_id] = _info(row), row["salt"], row["hash"]
        return self._known[key_id]

    def _write_uses(self, uses: Uses) -> None:
        with self._database.writing() as db:
            db.executemany(
                "UPDATE keys SET last_used_at = max(?, ifnull(last_used_at, '')) WHERE id = ?",
                [(iso_time(last), key_id) for key_id, (_, last) in uses.items()],
            )

    def _with_pending(self, info: KeyInfo) -> KeyInfo:
        pending = self._usage.pending(info.id)
        if pending is None:
            return info
        return KeyInfo(**{**info.as_dict(), "last_used_at": max(iso_time(pending[1]), info.last_used_at or "")})


def _hash(salt: bytes, secret: str) -> bytes:
    return hmac.digest(salt, secret.encode("utf-8", "surrogatepass"), "sha256")


def _info(row: sqlite3.Row) -> KeyInfo:
    values = {name: row[name] for name in row.keys() if name not in ("salt", "hash")}  # noqa: SIM118
    values |= {name: tuple(json.loads(values[name])) for name in ("scopes", "adapters")}
    return KeyInfo(**values)


def _check(name: str, scopes: Sequence[str], adapters: Sequence[str], limits: Sequence[int]) -> None:
    if not name or not name.isprintable() or len(name) > MAX_NAME_LEN:
        raise RequestError(f"{name!r} cannot be the name of a key.", hint=f"Use 1 to {MAX_NAME_LEN} printable letters.")
    if not scopes or (unknown := sorted(set(scopes) - set(SCOPES))):
        what = f"{unknown[0]!r} is no scope" if scopes else "a key without a scope opens nothing"
        raise RequestError(f"{what}.", hint=f"Scopes: {', '.join(SCOPES)}.")
    if not adapters or not all(pattern and pattern.isprintable() for pattern in adapters):
        raise RequestError(f"{list(adapters)!r} are no patterns of adapters' names.", hint="Write '*' or 'sql-*'.")
    for word, limit in zip(LIMITS, limits, strict=True):
        if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit < 2**53:
            raise RequestError(f"the limit {word} is {limit!r}.", hint="Write a whole number; 0 is no limit.")
