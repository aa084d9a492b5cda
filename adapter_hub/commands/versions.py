"""``versions``, ``rollback``, ``alias``, ``unalias``, ``pin``, ``unpin``: what the registry's names stand for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .flags import add_command, add_json, add_settings, settings_from
from .opening import open_loader, open_registry
from .output import say, say_json
from .records import record
from .tables import size, table

if TYPE_CHECKING:
    from ..store import AdapterInfo
    from .flags import Commands


def add_commands(commands: Commands) -> None:
    """Add the six commands."""
    name = ("name", {"metavar": "NAME"})
    reference = ("name", {"metavar": "NAME", "help": "a name, whose pin moves with its current version, or name@2"})
    alias = ("alias", {"metavar": "ALIAS", "help": "what NAME:ALIAS is to be read as"})
    earlier = {"metavar": "VERSION", "type": int, "nargs": "?", "help": "its number; left out, the one before"}
    number = {"metavar": "VERSION", "type": int, "nargs": "?", "help": "its number; left out, the current one"}
    for word, run, help, arguments in (
        ("versions", list_versions, "list the versions of a name", (name,)),
        ("rollback", rollback, "make another version of a name the current one", (name, ("version", earlier))),
        ("alias", set_alias, "let NAME:ALIAS stand for a version", (name, alias, ("version", number))),
        ("unalias", unalias, "take an alias away", (name, alias)),
        ("pin", pin, "mark an adapter as one that stays resident when others have to go", (reference,)),
        ("unpin", unpin, "take pins back", (reference,)),
    ):
        parser = add_command(commands, word, run, help)
        for argument, options in arguments:
            parser.add_argument(argument, **options)
        add_json(parser)
        add_settings(parser, "registry", *(("allow_pickle", "offline") if word == "rollback" else ()))


def list_versions(args: argparse.Namespace) -> int:
    """Read all entries of one name."""
    with open_registry(settings_from(args)) as registry:
        infos = registry.versions(args.name)
    if args.json:
        say_json([record(info) for info in infos])
        return 0
    heads = ("VERSION", "CURRENT", "ALIASES", "PINNED", "VARIANT", "SIZE", "ADDED", "USES", "LAST USED", "SOURCE")
    rows = [
        (
            str(i.version),
            "yes" if i.current else "",
            " ".join(i.aliases),
            "yes" if i.pinned else "",
            i.variant,
            size(i.bytes),
            i.registered_at,
            str(i.uses),
            i.last_used_at or "",
            i.source + (f" at {i.revision}" if i.revision else ""),
        )
        for i in infos
    ]
    say(table(heads, rows, right=("VERSION", "SIZE", "USES")))
    return 0


def rollback(args: argparse.Namespace) -> int:
    """Hash the files of that version, then make it current."""
    from ..loading import check_files

    settings = settings_from(args)
    with open_registry(settings) as registry:
        version = args.version
        target = registry.previous(args.name) if version is None else registry.get(f"{args.name}@{version}")
        with open_loader(settings) as loader:
            check_files(loader, target)
        info = registry.rollback(args.name, target.version)
    return _told(args, info, f"{info.name} is {info.key} now")


def set_alias(args: argparse.Namespace) -> int:
    """Make or move an alias."""
    with open_registry(settings_from(args)) as registry:
        info = registry.alias(args.name, args.alias, args.version)
    return _told(args, info, f"{info.name}:{args.alias} is {info.key} now")


def unalias(args: argparse.Namespace) -> int:
    """Take an alias away; its version stays."""
    with open_registry(settings_from(args)) as registry:
        info = registry.unalias(args.name, args.alias)
    return _told(args, info, f"{info.name}:{args.alias} is gone; {info.key} stays")


def pin(args: argparse.Namespace) -> int:
    """Pin a name or a version."""
    with open_registry(settings_from(args)) as registry:
        info = registry.pin(args.name)
    moves = f"; the pin moves with {info.name}" if args.name == info.name else ""
    return _told(args, info, f"{info.key} is pinned{moves}")


def unpin(args: argparse.Namespace) -> int:
    """Take back the pin of a version, or all pins of a name."""
    with open_registry(settings_from(args)) as registry:
        info = registry.unpin(args.name)
    if info.pinned:
        sentence = f"{info.key} stays pinned with its name; adapter-hub unpin {info.name} takes that back"
    else:
        sentence = f"{info.key} is not pinned"
    return _told(args, info, sentence)


def _told(args: argparse.Namespace, info: AdapterInfo, sentence: str) -> int:
    if args.json:
        say_json(record(info))
    else:
        say(sentence)
    return 0
