"""``inspect``: what is in an adapter's files, told without a base."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .flags import add_command, add_json, add_options, add_settings, options_from, settings_from
from .opening import open_loader
from .output import say, say_json
from .tables import facts, size

if TYPE_CHECKING:
    from ..hookspecs import SiteSummary
    from ..loading import Inspection
    from .flags import Commands

MAX_LINES = 12


def add_commands(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "inspect", inspect, "tell what is in an adapter's files, without a base")
    parser.add_argument("path", metavar="PATH", help="a folder, a file, or a Hub repo")
    parser.add_argument("--revision", metavar="R", help="commit, branch or tag of a Hub repo")
    add_options(parser)
    add_json(parser)
    add_settings(parser, "allow_pickle", "offline")


def inspect(args: argparse.Namespace) -> int:
    """Describe the files; the exit code is 1 if something in them would be refused."""
    from ..loading import inspect_folder

    options = options_from(args)
    with open_loader(settings_from(args)) as loader:
        found = inspect_folder(loader.fetch(args.path, args.revision).folder, loader, options)
    if args.json:
        say_json(found.as_dict())
    else:
        say(describe(found))
    return 1 if found.refused else 0


def describe(found: Inspection) -> str:
    """The facts as text."""
    base = found.base_name or "not recorded"
    brings = [
        name for name, has in (("tokenizer", found.has_tokenizer), ("chat template", found.has_chat_template)) if has
    ]
    tensors = "1 tensor" if found.tensors == 1 else f"{found.tensors} tensors"
    return facts(
        (
            ("folder", found.folder),
            ("format", found.format),
            ("variant", found.variant or "unknown"),
            ("digest", found.digest),
            ("base", base + (f" at {found.base_revision}" if found.base_revision else "")),
            ("fits", ", ".join(found.families)),
            ("sites", _first(site_lines(found.sites)) or "none"),
            ("scale rule", found.scale_rule),
            ("size", f"{size(found.bytes)} in {tensors}, {' '.join(found.dtypes)}"),
            ("beside", _first(list(found.replaced))),
            ("brings", " and ".join(brings)),
            ("warnings", found.warnings),
            ("refused", found.refused),
        )
    )


def site_lines(sites: Mapping[str, SiteSummary]) -> list[str]:
    """One line for each rank and scale: at how many sites, and at which modules; the most frequent first."""
    alike: dict[tuple[int, float | None], list[str]] = {}
    for path, site in sites.items():
        alike.setdefault((site.rank, site.scale), []).append(path.rpartition(".")[2])
    lines = []
    for (rank, scale), modules in sorted(alike.items(), key=lambda item: -len(item[1])):
        what = (f"rank {rank}" if rank else "no rank") + ("" if scale is None else f", scale {scale:g},")
        where = "1 site" if len(modules) == 1 else f"{len(modules)} sites"
        lines.append(f"{what} at {where}: {_modules(modules)}")
    return lines


def _modules(names: list[str]) -> str:
    """``q_proj k_proj (30 each), lm_head``: modules together that occur equally often."""
    by_count: dict[int, list[str]] = {}
    for name, count in Counter(names).items():
        by_count.setdefault(count, []).append(name)
    parts = []
    for count, alike in by_count.items():
        times = "" if count == 1 else f" ({count}{' each' if len(alike) > 1 else ''})"
        parts.append(" ".join(alike) + times)
    return ", ".join(parts)


def _first(lines: list[str]) -> list[str]:
    hidden = len(lines) - MAX_LINES
    return lines if hidden <= 0 else [*lines[:MAX_LINES], f"and {hidden} more (--json lists all)"]
