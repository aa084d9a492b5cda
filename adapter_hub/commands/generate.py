"""``generate``: the answer to one prompt, by one adapter or by several in one batch."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ..errors import SettingError
from ..store import BASE_NAME as BASE
from .flags import (
    add_base,
    add_command,
    add_device,
    add_json,
    add_sampling,
    add_settings,
    sampling_from,
    settings_from,
)
from .opening import check_registered, open_hub
from .output import say, say_json, say_stream

if TYPE_CHECKING:
    from ..engine import Prompt
    from ..hub import AdapterHub
    from .flags import Commands


def add_commands(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "generate", generate, "answer one prompt, with one adapter or several side by side")
    parser.add_argument("prompt", metavar="PROMPT", help="what to say; - reads it from the standard input")
    parser.add_argument(
        "--adapter",
        action="append",
        metavar="NAME",
        help=f"who answers, {BASE} being the base (the default); several run as one batch",
    )
    parser.add_argument("--system", metavar="TEXT", help="system message in front of a chat prompt")
    parser.add_argument("--raw", action="store_true", help="continue the prompt as it is, without a chat template")
    add_json(parser)
    add_sampling(parser)
    add_base(parser)
    add_device(parser)
    add_settings(parser)


def generate(args: argparse.Namespace) -> int:
    """Stream one answer, or print one under each adapter's name."""
    if args.raw and args.system is not None:
        raise SettingError("--system is for chat prompts, --raw is for plain ones.", hint="Leave one of them out.")
    names = [None if name == BASE else name for name in args.adapter or [BASE]]
    check_registered(settings_from(args), names)
    sampling = sampling_from(args)
    text = sys.stdin.read().removesuffix("\n") if args.prompt == "-" else args.prompt
    with open_hub(args) as hub:
        prompt = _prompt(text, args, chat=all(hub.can_chat(name) for name in names))
        if args.json or len(names) > 1:
            _batch(hub, prompt, names, sampling, as_json=args.json)
        else:
            say_stream(hub.stream(prompt, adapter=names[0], **sampling), [])
    return 0


def _prompt(text: str, args: argparse.Namespace, *, chat: bool) -> Prompt:
    if args.raw or not chat:
        if args.system is not None:
            raise SettingError(
                "neither base nor adapter has a chat template, so --system has no place.", hint="Leave it out."
            )
        return text
    system = [] if args.system is None else [{"role": "system", "content": args.system}]
    return [*system, {"role": "user", "content": text}]


def _batch(
    hub: AdapterHub, prompt: Prompt, names: list[str | None], sampling: dict[str, Any], *, as_json: bool
) -> None:
    completions = hub.generate([prompt] * len(names), adapters=names, **sampling)
    if as_json:
        say_json([completion.as_dict() for completion in completions])
        return
    say("\n\n".join(f"[{completion.adapter or BASE}]\n{completion.text}" for completion in completions))
