"""``keys create``, ``keys list``, ``keys revoke``: who may use a server for what."""

from __future__ import annotations

import argparse
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..errors import SettingError
from ..store.keys import LIMITS, SCOPES
from .flags import add_command, add_json, add_settings, settings_from
from .opening import open_registry
from .output import note, say, say_json
from .tables import table

if TYPE_CHECKING:
    from ..store import KeyInfo
    from .flags import Commands

_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_LIMIT_HELP = {
    "requests_per_minute": "requests a minute at most",
    "tokens_per_minute": "tokens of prompts and answers a minute at most",
    "concurrent": "requests at once at most",
}


def add_commands(commands: Commands) -> None:
    """Add the command and what it does."""
    parser = add_command(commands, "keys", list_keys, "make, list and revoke the API keys of a server")
    actions = parser.add_subparsers(title="what to do", metavar="ACTION", required=True)

    create_parser = add_command(actions, "create", create, "make a key and print its secret, once")
    create_parser.add_argument("name", metavar="NAME", help="what its owner is called")
    create_parser.add_argument(
        "--scope", action="append", choices=SCOPES, help="infer (the default) or admin; repeatable"
    )
    create_parser.add_argument(
        "--adapter",
        action="append",
        metavar="PATTERN",
        help="adapters that are there for it, as in 'sql-*' (default: all); repeatable",
    )
    for limit in LIMITS:
        flag = f"--{limit.replace('_', '-')}"
        create_parser.add_argument(flag, type=int, default=0, metavar="N", help=_LIMIT_HELP[limit])
    create_parser.add_argument("--expires", metavar="WHEN", help="90d, 12h, 30m, or a moment as in 2027-01-31T12:00")

    list_parser = add_command(actions, "list", list_keys, "list the keys; their secrets are nowhere to be had")
    revoke_parser = add_command(actions, "revoke", revoke, "take a key back; servers that run notice at once")
    revoke_parser.add_argument("name", metavar="NAME", help="its name, or how it begins: ahk_1a2b3c4d")
    for each in (create_parser, list_parser, revoke_parser):
        add_json(each)
        add_settings(each, "registry")


def create(args: argparse.Namespace) -> int:
    """Make a key. The secret is the answer, and goes to stdout alone."""
    expires_at = None if args.expires is None else moment(args.expires, time.time())
    with open_registry(settings_from(args)) as registry:
        info, secret = registry.keys.create(
            args.name,
            args.scope or ("infer",),
            args.adapter or ("*",),
            expires_at=expires_at,
            **{limit: getattr(args, limit) for limit in LIMITS},
        )
    if args.json:
        say_json({**info.as_dict(), "secret": secret})
    else:
        say(secret)
        note(f"{info.name} may {_opens(info)}. The key is not shown again; the registry holds only its hash.")
    return 0


def list_keys(args: argparse.Namespace) -> int:
    """Read all keys."""
    settings = settings_from(args)
    with open_registry(settings) as registry:
        infos = registry.keys.list()
    if args.json:
        say_json([info.as_dict() for info in infos])
    elif infos:
        heads = ("NAME", "KEY", "SCOPES", "ADAPTERS", "LIMITS", "CREATED", "LAST USED", "STATE")
        say(table(heads, [_row(info) for info in infos]))
    else:
        note(f"no key is in {settings.registry}; adapter-hub keys create NAME makes one")
    return 0


def revoke(args: argparse.Namespace) -> int:
    """Take a key back."""
    with open_registry(settings_from(args)) as registry:
        info = registry.keys.revoke(args.name)
    if args.json:
        say_json(info.as_dict())
    else:
        say(f"{info.name} ({info.shown}) is revoked")
    return 0


def moment(text: str, now: float) -> float:
    """Seconds since 1970 of a time from now (``90d``) or a moment in ISO 8601, UTC where it does not say.

    Raises:
        SettingError: it is neither, or past.
    """
    span = re.fullmatch(r"(\d{1,6})([mhd])", text)
    try:
        if span:
            found = now + int(span[1]) * _SECONDS[span[2]]
        else:
            parsed = datetime.fromisoformat(text)
            found = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
        datetime.fromtimestamp(found, UTC)
    except (ValueError, OverflowError, OSError):
        raise SettingError(
            f"--expires {text!r} is no time.", hint="Write 90d, 12h, 30m or a moment as in 2027-01-31T12:00."
        ) from None
    if found <= now:
        raise SettingError(f"--expires {text!r} is past.", hint="Such a key would open nothing.")
    return found


def _opens(info: KeyInfo) -> str:
    which = "all adapters" if "*" in info.adapters else "the adapters " + " ".join(info.adapters)
    return f"{' and '.join(info.scopes)} on {which}"


def _row(info: KeyInfo) -> tuple[str, ...]:
    short = {"requests_per_minute": "requests/min", "tokens_per_minute": "tokens/min", "concurrent": "at once"}
    limits = ", ".join(f"{getattr(info, name)} {word}" for name, word in short.items() if getattr(info, name))
    state = f"until {info.expires_at}" if info.expires_at else "in force"
    if info.revoked_at:
        state = f"revoked {info.revoked_at}"
    elif info.expires_at and datetime.fromisoformat(info.expires_at) <= datetime.now(UTC):
        state = f"expired {info.expires_at}"
    return (
        *(info.name, info.shown, " ".join(info.scopes), " ".join(info.adapters), limits),
        *(info.created_at, info.last_used_at or "", state),
    )
