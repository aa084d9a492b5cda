"""``demo``: the browser app that switches and compares adapters."""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING

from ..errors import AdapterHubError
from .flags import add_base, add_command, add_settings, settings_from
from .opening import hush_loading

if TYPE_CHECKING:
    from .flags import Commands

APP = "adapter_hub_demo.app"


def add_commands(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "demo", demo, "switch and compare adapters in the browser")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, metavar="N", help="default: one that gradio finds free")
    parser.add_argument("--no-browser", action="store_true", help="open no browser window")
    parser.add_argument(
        "--controls",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether whoever opens the page may add, load, unload, pin, merge and roll back adapters: it has no login "
        "(default: on this machine's own address alone)",
    )
    add_base(parser)
    add_settings(parser)


def demo(args: argparse.Namespace) -> int:
    """Import the app, which needs gradio, and run it until it is stopped."""
    settings = settings_from(args)
    if not args.debug:
        hush_loading()
    try:
        importlib.import_module(APP).run(
            host=args.host,
            port=args.port,
            open_browser=not args.no_browser,
            base=args.base,
            quantization=None if args.quantization == "none" else args.quantization,
            settings=settings,
            controls=args.controls,
        )
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "gradio":
            raise
        raise AdapterHubError(
            "the demo needs gradio, which is not installed.", hint="Install it: pip install 'adapter-hub[demo]'."
        ) from error
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; it must be a number from 1 to 65535")
    return int(text)
