"""``defaults``: what a server's requests to an adapter have where they do not say."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..errors import RequestError, SettingError
from .flags import SAMPLING, add_command, add_json, add_sampling, add_settings, settings_from
from .opening import open_registry
from .output import say, say_json
from .records import defaults, record

if TYPE_CHECKING:
    from .flags import Commands


def add_commands(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "defaults", set_defaults, "tell or change what a server's requests to an adapter have by default"
    )
    parser.add_argument("name", metavar="NAME", help="a name (its current version), name@2 or name:alias")
    parser.add_argument("--system-prompt", metavar="TEXT", help="in front of chats that bring none")
    parser.add_argument("--clear", action="append", default=[], metavar="FIELD", help="take one away; repeatable")
    add_sampling(parser)
    add_json(parser)
    add_settings(parser, "registry")


def set_defaults(args: argparse.Namespace) -> int:
    """Change what was asked for, and tell what there is then."""
    changes: dict[str, Any] = {name.replace("-", "_"): None for name in args.clear}
    for name in ("system_prompt", "stop", *(name for name, *_ in SAMPLING)):
        if (value := getattr(args, name)) is not None:
            if name in changes:
                raise SettingError(f"{name} is given and cleared.", hint="Do one of the two.")
            changes[name] = value
    if changes:
        from ..engine import check_defaults

        try:
            changes = check_defaults(changes)
        except RequestError as error:
            raise SettingError(error.message, hint=error.hint) from error
    with open_registry(settings_from(args)) as registry:
        info = registry.set_defaults(args.name, changes) if changes else registry.get(args.name)
    if args.json:
        say_json(record(info))
    elif info.defaults:
        say("\n".join(defaults(info)))
    else:
        say(f"{info.key} has no defaults of its own")
    return 0
