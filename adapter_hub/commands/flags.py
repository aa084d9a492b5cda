"""The flags that several commands share, and what is made of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from ..config import ENVIRONMENT_PREFIX, Settings, Table, settings_table
from ..errors import RequestError, SettingError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

T = TypeVar("T", bound=Table)

# Fields of ``Sampling`` that one answer on a terminal has a use for. The class itself is not asked: it lives beside the
# engine, and that imports torch.
SAMPLING: tuple[tuple[str, Callable[[str], Any], str, str], ...] = (
    ("max_new_tokens", int, "N", "tokens to generate at most"),
    ("temperature", float, "T", "0 takes the likeliest token each time (the default); above 0 samples"),
    ("top_p", float, "P", "sample among the likeliest tokens that hold this much probability"),
    ("top_k", int, "K", "sample among this many likeliest tokens; 0 is all"),
    ("min_p", float, "P", "sample among tokens at least this likely, as a share of the likeliest one's probability"),
    ("repetition_penalty", float, "X", "above 1 makes tokens that occurred less likely"),
    ("presence_penalty", float, "X", "above 0 makes tokens that were generated less likely"),
    ("frequency_penalty", float, "X", "the same, once for each time a token was generated"),
    ("seed", int, "N", "makes drawn tokens repeatable"),
    ("json_schema", str, "SCHEMA", "the answer is JSON that this schema, written as JSON, accepts"),
    ("regex", str, "REGEX", "the answer matches this expression from its beginning to its end"),
)


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], help: str
) -> argparse.ArgumentParser:
    """Add a command with the flags that every one has."""
    description = help[0].upper() + help[1:] + "."
    parser = commands.add_parser(name, help=help, description=description, allow_abbrev=False)
    parser.set_defaults(run=run)
    # Suppressed, so that a ``--debug`` in front of the command's name is not taken back here.
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks and all progress bars"
    )
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="write the result as JSON")


def add_base(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose the base model and how it is quantised."""
    group = parser.add_argument_group("base model")
    group.add_argument("--base", metavar="REF", help="Hub id or folder; left out, the built-in default")
    group.add_argument("--quantization", choices=("nf4", "none"), default="nf4", help="default: nf4")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where and in which type the base computes."""
    group = parser.add_argument_group("device")
    group.add_argument("--dtype", default="auto", help="compute type, such as bfloat16 (default: auto)")
    group.add_argument("--device", default="auto", help="cpu, cuda or cuda:N (default: auto)")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--option``, for what an adapter's file does not say."""
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what the adapter's file does not say, in the names of PEFT's configurations; repeatable",
    )


def options_from(args: argparse.Namespace) -> dict[str, Any]:
    """What was stated of an adapter. A value is read as JSON where it is, and as text where not.

    Raises:
        SettingError: a flag is not NAME=VALUE.
    """
    stated: dict[str, Any] = {}
    for text in args.option:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise SettingError(f"--option {text!r} is not NAME=VALUE.", hint="See docs/formats.md for the names.")
        try:
            stated[name] = json.loads(value)
        except (ValueError, RecursionError):
            stated[name] = value
    return stated


def add_settings(
    parser: argparse.ArgumentParser, *names: str, table: type[Table] = Settings, title: str = "settings"
) -> None:
    """Add a flag for each setting of a table, or for those in ``names``."""
    group = parser.add_argument_group(title, f"Each is also read from {ENVIRONMENT_PREFIX}NAME.")
    for entry, (_, _, default, _) in zip(fields(table), settings_table(table), strict=True):
        if names and entry.name not in names:
            continue
        flag = f"--{entry.name.replace('_', '-')}"
        if isinstance(entry.default, bool):
            default = "on" if entry.default else "off"
        help = f"{entry.metadata['help']} Default: {default}".replace("%", "%%")
        if isinstance(entry.default, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=help)
        else:
            kind = str if entry.default is None else type(entry.default)
            choices = entry.metadata["choices"] or None
            metavar = None if choices else entry.name.rpartition("_")[2].upper()
            group.add_argument(flag, type=kind, choices=choices, metavar=metavar, help=help)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each field of ``Sampling``."""
    group = parser.add_argument_group("sampling")
    for name, kind, metavar, help in SAMPLING:
        group.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=help)
    group.add_argument("--stop", action="append", metavar="TEXT", help="end the answer here; may be repeated")


def settings_from(args: argparse.Namespace) -> Settings:
    """The hub's settings: flags first, then the environment, then the defaults.

    Raises:
        SettingError: a value is not among a setting's choices.
    """
    return table_from(args, Settings)


def table_from(args: argparse.Namespace, table: type[T], below: Mapping[str, Any] | None = None) -> T:
    """The same of any table; ``below`` are values of a file, which win over the defaults alone."""
    given = {entry.name: getattr(args, entry.name, None) for entry in fields(table)}
    return table.from_environment(None, below, **given)


def sampling_from(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of ``Sampling`` that were given, checked.

    Raises:
        SettingError: a value is out of its range, or has no effect beside the others.
    """
    given = {name: getattr(args, name) for name, *_ in SAMPLING if getattr(args, name) is not None}
    if args.stop:
        given["stop"] = tuple(args.stop)
    idle = next((name for name in ("top_p", "top_k", "min_p", "seed") if name in given), None)
    if idle is not None and not given.get("temperature"):
        raise SettingError(f"{idle} has no effect at temperature 0.", hint="Give a --temperature above 0 too.")
    from ..engine import Sampling

    try:
        Sampling(**given)
    except RequestError as error:
        raise SettingError(error.message, hint=error.hint) from error
    return given
