"""``compose``, ``export`` and ``convert``: new files out of adapters."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RequestError, SettingError
from ..store import check_name
from ..store.expression import Expression
from .flags import add_base, add_command, add_device, add_json, add_options, add_settings, options_from, settings_from
from .opening import check_registered, open_hub
from .output import note, printable, say, say_json
from .tables import size, table

if TYPE_CHECKING:
    from ..exporting import Exported
    from .flags import Commands

MAX_LINES = 8
MODEL = "model"
DTYPES = ("bfloat16", "float16", "float32")


def add_commands(commands: Commands) -> None:
    """Add the three commands."""
    parser = add_command(commands, "compose", compose, "make one adapter of several and record it under a name")
    parser.add_argument("name", metavar="NAME", help="what requests will call it")
    parser.add_argument("parents", metavar="SUM", help="registered adapters and their weights, as in sql*0.7+med*0.3")
    parser.add_argument(
        "--method", default="cat", metavar="M", help="how they are merged (default: cat, the exact sum)"
    )
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the method, as density=0.5; repeatable"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of methods that draw (default: 0)")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="where it is written (default: in the cache)")
    parser.add_argument("--tag", action="append", default=[], metavar="T", help="a word to find it by; repeatable")
    add_json(parser)
    add_base(parser)
    add_device(parser)
    add_settings(parser)

    parser = add_command(commands, "export", export, "write a registered adapter out, folded into its base or alone")
    parser.add_argument("name", metavar="NAME", help="an adapter, or a sum as in sql*0.7+med*0.3")
    _add_target(
        parser, "--as", dest="form", default=MODEL, help="model (the default), or an exporter that a plugin brings"
    )
    parser.add_argument("--dtype", choices=DTYPES, help="of a model (default: bfloat16)")
    parser.add_argument(
        "--full-base", metavar="REF", help="full-precision checkpoint of the base to fold into; 'default' is built in"
    )
    parser.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of a model's files (default: 5GB)")
    add_base(parser)
    add_settings(parser)

    parser = add_command(commands, "convert", convert, "write an adapter's files in another form, without a registry")
    parser.add_argument("source", metavar="SRC", help="a folder, or a Hub repo")
    _add_target(parser, "--to", dest="form", required=True, help="an exporter; adapter-hub plugins lists them")
    parser.add_argument("--revision", metavar="R", help="commit, branch or tag of a Hub repo")
    parser.add_argument(
        "--base", metavar="REF", help="its base in full precision, Hub id or folder; left out, the built-in default"
    )
    add_options(parser)
    add_settings(parser, "cache_dir", "allow_pickle", "allow_base_mismatch", "offline")


def _add_target(parser: argparse.ArgumentParser, flag: str, **options: Any) -> None:
    parser.add_argument("path", metavar="DST", type=Path, help="the folder to write; it may not hold anything yet")
    parser.add_argument(flag, metavar="FORM", **options)
    parser.add_argument(
        "--rank",
        type=int,
        metavar="R",
        help="largest rank of what is written; what is lost is told, without it nothing is",
    )
    add_json(parser)


def compose(args: argparse.Namespace) -> int:
    """Load the base, merge the adapters, record the result."""
    check_name(args.name)
    settings = settings_from(args)
    weights = Expression.parse(args.parents).weights
    check_registered(settings, list(weights))
    options = dict(map(_option, args.option))
    with open_hub(args) as hub:
        info = hub.compose(args.name, weights, args.method, seed=args.seed, folder=args.into, tags=args.tag, **options)
    for warning in info.warnings:
        note(f"adapter-hub: warning: {printable(warning)}")
    if args.json:
        say_json({key: value for key, value in info.as_dict().items() if key != "resident"})
    else:
        say(f"{info.name}: {args.method} of {len(weights)} adapters, {size(info.bytes)}, in {printable(info.folder)}")
    return 0


def export(args: argparse.Namespace) -> int:
    """Load the base and write the adapter."""
    check_registered(settings_from(args), [args.name])
    given = {"dtype": args.dtype, "full_base": args.full_base, "rank": args.rank}
    # The base computes nothing here: its block scales stay as they are stored, whatever would be faster.
    args.cpu_kernel = args.cpu_kernel or "exact"
    args.device, args.dtype = "auto", "float32" if args.dtype == "float32" else "auto"
    with open_hub(args) as hub:
        exported = hub.export(args.name, args.path, args.form, max_shard_size=args.max_shard_size, **given)
    _tell(exported, as_json=args.json)
    return 0


def convert(args: argparse.Namespace) -> int:
    """Write an adapter's files in another form; of the base, no more is read than the adapter asks for."""
    from ..workshop import convert as convert_files

    if args.form == MODEL:
        raise RequestError("convert writes adapters.", hint="Record it with add, and use export for a model.")
    exported = convert_files(
        args.source,
        args.path,
        args.form,
        base=args.base,
        revision=args.revision,
        rank=args.rank,
        options=options_from(args),
        settings=settings_from(args),
    )
    _tell(exported, as_json=args.json)
    return 0


def report(exported: Exported) -> str:
    """The sites of which most is lost, where anything is, and the sum over all."""
    from ..loading import worst_first

    lossy = [one for one in worst_first(exported.kept) if one.error]
    lines = []
    if lossy:
        rows = [(one.name, one.form, f"{one.error / one.change:.1%}") for one in lossy[:MAX_LINES] if one.change]
        lines.append(table(("SITE", "KEPT AS", "LOST"), rows, right=("LOST",)))
        if len(lossy) > MAX_LINES:
            lines.append(f"and {len(lossy) - MAX_LINES} more, of which less is lost")
        lines.append(f"{exported.relative_error:.1%} of the change is lost (norm of the error over norm of the change)")
    if exported.weights:
        lines.append(f"weights {printable(exported.weights)}")
    return "\n".join(lines)


def _tell(exported: Exported, *, as_json: bool) -> None:
    if as_json:
        say_json(exported.as_dict())
        return
    for warning in exported.warnings:
        note(f"adapter-hub: warning: {printable(warning)}")
    told = report(exported)
    if told:
        note(told)
    say(f"{printable(str(exported.folder))}: {exported.form}, {size(exported.bytes)} in {len(exported.files)} files")


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingError(f"--option {text!r} has no value.", hint="Write NAME=VALUE, as density=0.5.")
    if re.fullmatch(r"[+-]?\d+", value):
        return name, int(value)
    try:
        return name, float(value)
    except ValueError:
        return name, value
