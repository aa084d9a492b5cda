"""``bench``: drives a server that speaks OpenAI's API, and reports what it makes of many adapters."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..errors import AdapterHubError, SettingError
from .flags import add_command
from .output import note, say
from .tables import duration, table

if TYPE_CHECKING:
    from ..bench import Figures
    from ..bench.figures import Share, Spread
    from .flags import Commands

HEADS = ("ADAPTER", "REQUESTS", "FAILED", "TOKENS", "FIRST P50", "P90", "P99", "TOKEN P50", "P90", "P99", "TOTAL P50")


def add_commands(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "bench", bench, "measure a server that speaks OpenAI's API, under many adapters")
    parser.add_argument("--url", required=True, help="of the server, such as http://127.0.0.1:8000")
    parser.add_argument("--adapters", required=True, metavar="A,B,C", help="model names to spread the requests over")
    parser.add_argument(
        "--distribution", choices=("uniform", "zipf"), default="uniform", help="how often each is asked for"
    )
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--rate", type=_rate, metavar="R", help="requests a second, at random moments")
    load.add_argument(
        "--concurrency", type=_count, metavar="C", help="requests at a time, one after the other (default: 8)"
    )
    parser.add_argument("--num-requests", type=_count, default=100, metavar="N", help="default: 100")
    parser.add_argument("--max-tokens", type=_count, default=64, metavar="N", help="of each answer (default: 64)")
    parser.add_argument("--endpoint", choices=("chat", "completions"), default="chat", help="default: chat")
    parser.add_argument("--prompts", metavar="FILE", help="prompts, one a line; left out, a short built-in set")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn (default: 0)")
    parser.add_argument("--timeout", type=_rate, default=300.0, metavar="S", help="seconds of silence (default: 300)")
    parser.add_argument("--api-key", metavar="KEY", help="left out, that of OPENAI_API_KEY")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--png", metavar="FILE", help="draw them there")


def bench(args: argparse.Namespace) -> int:
    """Plan the load, send it, and tell what came of it; 1 if nothing was answered."""
    adapters = [name.strip() for name in args.adapters.split(",") if name.strip()]
    if not adapters:
        raise SettingError(f"--adapters {args.adapters!r} names none.", hint="Write --adapters a,b,c.")
    try:
        from ..bench import PROMPTS, Target, draw, drive, figures_of, plan
    except ModuleNotFoundError as error:
        raise AdapterHubError(
            f"bench needs {error.name}, which is not installed.", hint="Install it: pip install 'adapter-hub[serve]'."
        ) from error
    prompts = PROMPTS if args.prompts is None else _prompts(Path(args.prompts))
    key = os.environ.get("OPENAI_API_KEY", "") if args.api_key is None else args.api_key
    jobs = plan(
        adapters, args.num_requests, distribution=args.distribution, rate=args.rate, prompts=prompts, seed=args.seed
    )
    target = Target(args.url, key, args.endpoint, args.max_tokens, args.timeout)
    concurrency = None if args.rate is not None else args.concurrency or 8
    with tqdm(total=len(jobs), unit="request", disable=None) as bar:
        outcomes, seconds = asyncio.run(drive(target, jobs, concurrency=concurrency, tell=bar.update))
    figures = figures_of(outcomes, seconds)
    say(_report(figures))
    load = f"{args.rate:g} requests a second" if args.rate is not None else f"{concurrency} requests at a time"
    try:
        if args.json is not None:
            asked = {name: value for name, value in vars(args).items() if name not in ("run", "debug", "api_key")}
            Path(args.json).write_text(json.dumps({"asked": asked, **figures.as_dict()}, indent=2) + "\n")
        if args.png is not None:
            draw(
                figures, outcomes, args.png, title=f"{args.url}: {len(adapters)} adapters, {args.distribution}, {load}"
            )
    except OSError as error:
        raise AdapterHubError(f"the figures cannot be written: {error}.", hint="Give another file.") from error
    return 1 if figures.all.failed == figures.all.requests else 0


def _report(figures: Figures) -> str:
    shares = {**figures.adapters, **({"all": figures.all} if len(figures.adapters) > 1 else {})}
    lines = [table(HEADS, [_row(name, share) for name, share in shares.items()], right=HEADS[1:])]
    lines.append(
        f"\n{figures.seconds:.1f} s, {figures.requests_per_second:.2f} requests/s, "
        f"{figures.tokens_per_second:.1f} tokens/s, {figures.all.failed} failed"
    )
    lines += [f"  {count} x {error}" for error, count in figures.errors.items()]
    return "\n".join(lines)


def _row(name: str, share: Share) -> list[str]:
    counts = [str(share.requests), str(share.failed), str(share.completion_tokens)]
    return [name, *counts, *_times(share.first_token), *_times(share.per_token), _times(share.total)[0]]


def _times(spread: Spread | None) -> list[str]:
    return ["", "", ""] if spread is None else [duration(each) for each in (spread.p50, spread.p90, spread.p99)]


def _prompts(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"--prompts {path} cannot be read: {error}.", hint="Give a text file.") from error
    found = [line for line in lines if line]
    if not found:
        raise SettingError(f"--prompts {path} has no line.", hint="Write one prompt a line.")
    note(f"{len(found)} prompts from {path}")
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


def _rate(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return found
