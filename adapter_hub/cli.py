"""The command ``adapter-hub``: its parser, and what an error looks like to whoever typed it."""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Sequence

from . import __version__
from .commands import (
    adapters,
    bench,
    chat,
    defaults,
    demo,
    exporting,
    generate,
    inspection,
    keys,
    plugins,
    serving,
    versions,
)
from .commands.output import note, one_line
from .errors import AdapterHubError, SettingError

# What a shell reports for a program that died of SIGINT or SIGPIPE.
INTERRUPTED, BROKEN_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0: done. 1: it failed, or ``inspect`` found something that would be refused. 2: a flag, an argument or an
    environment variable has a value it cannot have. 130: interrupted. 141: the reader of the output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A model may write what the terminal's encoding lacks; that must not end the answer.
            stream.reconfigure(errors="replace")
    args = build_parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        return _failed(error, args.debug)
    return code


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands. Building it imports neither torch nor transformers."""
    parser = argparse.ArgumentParser(
        prog="adapter-hub",
        description="One frozen 4-bit base model, any number of adapters, each request with its own.",
        epilog="adapter-hub COMMAND --help tells the flags of a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"adapter-hub {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and all progress bars")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (
        demo,
        serving,
        bench,
        chat,
        generate,
        adapters,
        versions,
        defaults,
        keys,
        exporting,
        inspection,
        plugins,
    ):
        module.add_commands(commands)
    return parser


def _failed(error: BaseException, debug: bool) -> int:
    if isinstance(error, BrokenPipeError):
        # The interpreter flushes stdout once more at its end, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    if debug:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, AdapterHubError):
        note(f"adapter-hub: error: {one_line(error)}")
    else:
        kind = type(error).__name__
        note(f"adapter-hub: error: unexpected {kind}: {one_line(error)} (--debug shows where it comes from)")
    return 2 if isinstance(error, SettingError) else 1
