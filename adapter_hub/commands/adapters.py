"""``add``, ``list``, ``show``, ``remove``: the adapters of the registry's file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..store import check_name
from .flags import add_base, add_command, add_device, add_json, add_options, add_settings, options_from, settings_from
from .opening import check_registered, open_hub, open_loader, open_registry
from .output import note, printable, say, say_json
from .tables import facts, size, table
from .tuned import DEFAULT_BASE, add_tuned, import_checkpoint

if TYPE_CHECKING:
    from ..store import AdapterInfo
    from .flags import Commands


def add_commands(commands: Commands) -> None:
    """Add the four commands."""
    parser = add_command(commands, "add", add, "prove an adapter against the base and record it under a name")
    parser.add_argument("name", metavar="NAME", help="what requests will call it")
    parser.add_argument("ref", metavar="REF", help="a folder, a file, or a Hub repo")
    parser.add_argument("--revision", metavar="R", help="commit, branch or tag of a Hub repo")
    add_options(parser)
    parser.add_argument("--tag", action="append", default=[], metavar="T", help="a word to find it by; repeatable")
    add_tuned(parser)
    add_json(parser)
    add_base(parser)
    add_device(parser)
    add_settings(parser)

    parser = add_command(commands, "list", list_adapters, "list the registered adapters")
    parser.add_argument("--tag", metavar="T", help="only those with this tag")
    add_json(parser)
    add_settings(parser, "registry")

    for name, run, help in (
        ("show", show, "tell what is known of one registered adapter"),
        ("remove", remove, "forget a registered adapter; its files stay where they are"),
    ):
        parser = add_command(commands, name, run, help)
        parser.add_argument("name", metavar="NAME")
        add_json(parser)
        add_settings(parser, "registry")


def add(args: argparse.Namespace) -> int:
    """Load the base, prove the adapter, record it; what the proof found odd goes to stderr."""
    check_name(args.name)
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
        info = hub.register(args.name, ref, revision=args.revision, tags=args.tag, options=options)
    for warning in info.warnings:
        note(f"adapter-hub: warning: {printable(warning)}")
    if args.json:
        say_json(_record(info))
    else:
        say(f"{info.name}: {info.variant}, {_ranks(info)} at {info.sites} sites, {size(info.bytes)}")
    return 0


def list_adapters(args: argparse.Namespace) -> int:
    """Read the registry's file alone."""
    settings = settings_from(args)
    with open_registry(settings) as registry:
        infos = registry.list(args.tag)
    if args.json:
        say_json([_record(info) for info in infos])
    elif infos:
        heads = ("NAME", "VARIANT", "RANK", "SITES", "SIZE", "TAGS", "SOURCE")
        rows = [
            (i.name, i.variant, _numbers(i.ranks), str(i.sites), size(i.bytes), " ".join(i.tags), i.source)
            for i in infos
        ]
        say(table(heads, rows, right=("RANK", "SITES", "SIZE")))
    else:
        of_tag = f" with the tag {args.tag!r}" if args.tag else ""
        note(f"no adapter{of_tag} is registered in {settings.registry}; adapter-hub add NAME REF records one")
    return 0


def show(args: argparse.Namespace) -> int:
    """Read one entry of the registry's file."""
    with open_registry(settings_from(args)) as registry:
        info = registry.get(args.name)
    if args.json:
        say_json(_record(info))
        return 0
    base = f"{info.base_name or 'not recorded'} (proven against {info.base_fingerprint})"
    pairs = (
        ("name", info.name),
        ("tags", " ".join(info.tags)),
        ("source", info.source + (f" at {info.revision}" if info.revision else "")),
        ("folder", info.folder),
        ("format", info.format),
        ("variant", info.variant),
        ("sites", f"{_ranks(info)} at {info.sites} sites"),
        ("size", size(info.bytes)),
        ("base", base),
        ("digest", info.digest),
        ("stated", [f"{name}={value}" for name, value in info.options.items()]),
        ("added", info.registered_at),
        ("warnings", info.warnings),
    )
    say(facts(pairs))
    return 0


def remove(args: argparse.Namespace) -> int:
    """Take one entry out of the registry's file."""
    with open_registry(settings_from(args)) as registry:
        info = registry.get(args.name)
        registry.remove(args.name)
    if args.json:
        say_json(_record(info))
    else:
        say(f"{info.name}: removed; its files stay in {printable(info.folder)}")
    return 0


def _record(info: AdapterInfo) -> dict[str, Any]:
    """What lasts of an adapter's entry: residency ends with the process."""
    return {key: value for key, value in info.as_dict().items() if key != "resident"}


def _ranks(info: AdapterInfo) -> str:
    return f"rank {_numbers(info.ranks)}" if any(info.ranks) else "no rank"


def _numbers(ranks: tuple[int, ...]) -> str:
    shown = [rank for rank in ranks if rank]
    return f"{shown[0]}..{shown[-1]}" if len(shown) > 3 else ",".join(map(str, shown))
