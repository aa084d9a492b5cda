"""``add``, ``list``, ``show``, ``remove``: the adapters of the registry's file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..store import check_name, check_tags, running
from .flags import add_base, add_command, add_device, add_json, add_options, add_settings, options_from, settings_from
from .opening import check_registered, open_hub, open_loader, open_registry
from .output import note, printable, say, say_json
from .records import defaults, numbers, ranks, record
from .tables import facts, size, table
from .tiers import tiers_of, where
from .tuned import DEFAULT_BASE, add_tuned, import_checkpoint

if TYPE_CHECKING:
    from ..store import AdapterInfo, Registry
    from .flags import Commands


def add_commands(commands: Commands) -> None:
    """Add the four commands."""
    parser = add_command(commands, "add", add, "prove an adapter against the base and record it under a name")
    parser.add_argument("name", metavar="NAME", help="what requests will call it")
    parser.add_argument("ref", metavar="REF", help="a folder, a file, or a Hub repo")
    parser.add_argument("--revision", metavar="R", help="commit, branch or tag of a Hub repo")
    add_options(parser)
    parser.add_argument("--tag", action="append", default=[], metavar="T", help="a word to find it by; repeatable")
    parser.add_argument("--pin", action="store_true", help="let it stay resident when others have to go")
    add_tuned(parser)
    add_json(parser)
    add_base(parser)
    add_device(parser)
    add_settings(parser)

    parser = add_command(commands, "list", list_adapters, "list the registered adapters")
    parser.add_argument("--tag", metavar="T", help="only those with this tag")
    parser.add_argument("--all-versions", action="store_true", help="versions that are not current too")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many")
    parser.add_argument("--after", metavar="NAME", help="only what comes after this name or name@2, for the next page")
    parser.add_argument("--tiers", action="store_true", help="tell where each lies in the hubs that run right now")
    add_json(parser)
    add_settings(parser, "registry")

    for name, run, help in (
        ("show", show, "tell what is known of one registered adapter"),
        ("remove", remove, "forget a name with all its versions, or one version; files stay where they are"),
    ):
        parser = add_command(commands, name, run, help)
        parser.add_argument("name", metavar="NAME", help="a name, name@2 or name:alias")
        add_json(parser)
        add_settings(parser, "registry")


def add(args: argparse.Namespace) -> int:
    """Load the base, prove the adapter, record it; what the proof found odd goes to stderr."""
    check_name(args.name)
    check_tags(args.tag)
    settings, options = settings_from(args), options_from(args)
    check_registered(settings)
    ref = args.ref
    if args.tuned_from:
        imported = import_checkpoint(args, settings)
        ref = str(imported.folder)
        args.base = args.base or (None if args.tuned_from == DEFAULT_BASE else args.tuned_from)
    with open_loader(settings) as loader:
        loader.fetch(ref, args.revision)  # a reference that leads nowhere shows before the base is loaded
    with open_hub(args) as hub:
        info = hub.register(args.name, ref, revision=args.revision, tags=args.tag, pin=args.pin, options=options)
        current = hub.info(args.name)
    for warning in info.warnings:
        note(f"adapter-hub: warning: {printable(warning)}")
    if not info.current:
        note(
            f"adapter-hub: warning: {info.name} stays {current.key}, for this content was registered before; "
            f"adapter-hub rollback {info.name} {info.version} makes it current."
        )
    if args.json:
        say_json(record(info))
    else:
        say(f"{info.key}: {info.variant}, {ranks(info)} at {info.sites} sites, {size(info.bytes)}")
    return 0


def list_adapters(args: argparse.Namespace) -> int:
    """Read the registry's file alone."""
    settings = settings_from(args)
    with open_registry(settings) as registry:
        infos = registry.list(args.tag, all_versions=args.all_versions, after=args.after, limit=args.limit)
    hubs = running(Path(settings.registry)) if args.tiers else []
    if args.json:
        records = [record(info) for info in infos]
        say_json({"adapters": records, "hubs": hubs} if args.tiers else records)
    elif infos:
        heads = ["NAME", "VERSION", "ALIASES", "PINNED", "VARIANT", "RANK", "SITES", "SIZE", "USES", "TAGS", "SOURCE"]
        rows = [list(_row(info)) for info in infos]
        if args.tiers:
            heads.insert(1, "WHERE")
            for row, info in zip(rows, infos, strict=True):
                row.insert(1, where(hubs, info.digest))
        say(table(heads, rows, right=("VERSION", "RANK", "SITES", "SIZE", "USES")))
        for hub in hubs:
            say("\n" + tiers_of(hub))
    else:
        of_tag = (f" with the tag {args.tag!r}" if args.tag else "") + (f" after {args.after!r}" if args.after else "")
        note(f"no adapter{of_tag} is registered in {settings.registry}; adapter-hub add NAME REF records one")
    return 0


def show(args: argparse.Namespace) -> int:
    """Read one entry of the registry's file."""
    with open_registry(settings_from(args)) as registry:
        info = registry.get(args.name)
        current = registry.get(info.name).key
    if args.json:
        say_json(record(info))
        return 0
    base = f"{info.base_name or 'not recorded'} (proven against {info.base_fingerprint})"
    pairs = (
        ("name", info.name),
        ("version", f"{info.version}, the current one" if info.current else f"{info.version}; {current} is current"),
        ("aliases", " ".join(f"{info.name}:{alias}" for alias in info.aliases)),
        ("pinned", "yes" if info.pinned else ""),
        ("tags", " ".join(info.tags)),
        ("source", info.source + (f" at {info.revision}" if info.revision else "")),
        ("folder", info.folder),
        ("format", info.format),
        ("variant", info.variant),
        ("sites", f"{ranks(info)} at {info.sites} sites"),
        ("size", size(info.bytes)),
        ("base", base),
        ("digest", info.digest),
        ("stated", [f"{name}={value}" for name, value in info.options.items()]),
        ("defaults", defaults(info)),
        ("added", info.registered_at),
        ("used", f"{info.uses} times, last {info.last_used_at}" if info.uses else "never"),
        ("warnings", info.warnings),
    )
    say(facts(pairs))
    return 0


def remove(args: argparse.Namespace) -> int:
    """Take the entries of a name, or one of them, out of the registry's file."""
    with open_registry(settings_from(args)) as registry:
        gone = registry.remove(args.name)
        left = _current_after(registry, gone)
    if args.json:
        say_json([record(info) for info in gone])
    else:
        for info in gone:
            say(f"{info.key}: removed; its files stay in {printable(info.folder)}")
    if left is not None:
        note(f"{left.name} is {left.key} now")
    return 0


def _current_after(registry: Registry, gone: Sequence[AdapterInfo]) -> AdapterInfo | None:
    """What became current because what was is gone."""
    was_current = any(info.current for info in gone)
    return registry.get(gone[0].name) if was_current and registry.knows(gone[0].name) else None


def _row(i: AdapterInfo) -> tuple[str, ...]:
    version = f"{i.version}" if i.current else f"({i.version})"
    pinned, aliases, tags = "yes" if i.pinned else "", " ".join(i.aliases), " ".join(i.tags)
    return (
        *(i.name, version, aliases, pinned, i.variant, numbers(i.ranks)),
        *(str(i.sites), size(i.bytes), str(i.uses), tags, i.source),
    )
