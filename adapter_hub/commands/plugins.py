"""``plugins``: who brought what."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from .flags import add_command, add_json
from .output import say, say_json
from .tables import table

if TYPE_CHECKING:
    from .flags import Commands


def add_commands(commands: Commands) -> None:
    """Add the command."""
    add_json(add_command(commands, "plugins", list_plugins, "list the plugins and what each of them brings"))


def list_plugins(args: argparse.Namespace) -> int:
    """Wire the plugins as a hub would and tell the result."""
    from ..plugin_manager import KINDS, ROUTES, load_plugins

    infos, kinds = load_plugins().infos, (*KINDS, ROUTES)
    if args.json:
        say_json([asdict(info) for info in infos])
    else:
        rows = [(i.name, i.distribution, *(" ".join(getattr(i, kind)) for kind in kinds)) for i in infos]
        say(table(("PLUGIN", "DISTRIBUTION", *(kind.replace("_", " ").upper() for kind in kinds)), rows))
    return 0
