"""``chat``: a conversation in the terminal, with the adapter changed whenever one likes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import AdapterHubError
from ..store import BASE_NAME as BASE
from ..store import Reference
from .flags import (
    add_base,
    add_command,
    add_device,
    add_sampling,
    add_settings,
    sampling_from,
    settings_from,
)
from .opening import check_registered, open_hub
from .output import note, one_line, say_stream
from .tables import duration, table

if TYPE_CHECKING:
    from ..hub import AdapterHub
    from .flags import Commands

HELP = """\
/adapter NAME  answer with this adapter from now on; /adapter base with the base
/adapters      list the registered adapters
/new           forget the conversation and begin another
/help          this list
/quit          end, as Ctrl-D does
Ctrl-C stops an answer."""


def add_commands(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "chat", chat, "talk in the terminal, switching adapters on the way")
    parser.add_argument("--adapter", default=BASE, metavar="NAME", help=f"who answers first (default: {BASE})")
    parser.add_argument("--system", metavar="TEXT", help="system message in front of the conversation")
    add_sampling(parser)
    parser.set_defaults(max_new_tokens=512)
    add_base(parser)
    add_device(parser)
    add_settings(parser)


def chat(args: argparse.Namespace) -> int:
    """Talk until the input ends."""
    name = None if args.adapter == BASE else args.adapter
    check_registered(settings_from(args), [name])
    sampling = sampling_from(args)
    with open_hub(args) as hub:
        hub.set_adapter(name)
        interactive = sys.stdin.isatty()
        if interactive:
            with suppress(ImportError):
                import readline  # noqa: F401  # gives input() its line editing and history
            note(f"{hub.base.name}; /help lists the commands, Ctrl-D ends")
        Conversation(hub, args.system, sampling, interactive=interactive).run()
    return 0


class Conversation:
    """One conversation and its commands. Answers go to stdout, everything else to stderr.

    Args:
        hub: who answers, with its default adapter.
        system: system message, or None.
        sampling: fields of ``Sampling``.
        interactive: someone types: there is a prompt, and an error or Ctrl-C ends a turn only. A script's
            conversation ends with its first error, for the turns after it would rest on what did not happen.
    """

    def __init__(self, hub: AdapterHub, system: str | None, sampling: dict[str, Any], *, interactive: bool) -> None:
        self.hub = hub
        self.sampling = sampling
        self.interactive = interactive
        self._opening = [] if system is None else [{"role": "system", "content": system}]
        self.messages = list(self._opening)
        self._over = False
        self._commands: dict[str, Callable[[str], None]] = {
            "/adapter": self._switch,
            "/adapters": self._list,
            "/new": self._renew,
            "/help": lambda _: note(HELP),
            "/quit": self._quit,
        }

    def run(self) -> None:
        """Read lines and answer them until ``/quit`` or the end of the input."""
        while not self._over:
            try:
                line = input(f"{self._who()}> " if self.interactive else "").strip()
                if line:
                    self._turn(line)
            except EOFError:
                if self.interactive:
                    note("")
                return
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                note("\n(stopped; Ctrl-D or /quit ends the program)")

    def _turn(self, line: str) -> None:
        try:
            if line.startswith("/"):
                word, _, rest = line.partition(" ")
                self._commands.get(word, self._unknown)(rest.strip())
            else:
                self._answer(line)
        except AdapterHubError as error:
            if not self.interactive:
                raise
            note(f"error: {one_line(error)}")

    def _answer(self, line: str) -> None:
        self.messages.append({"role": "user", "content": line})
        said: list[str] = []
        answered = False
        try:
            say_stream(self.hub.stream(self.messages, **self.sampling), said)
            answered = True
        finally:
            if answered or said:
                self.messages.append({"role": "assistant", "content": "".join(said)})
            else:
                self.messages.pop()  # two questions in a row are no conversation

    def _switch(self, name: str) -> None:
        if not name:
            note(f"{self._who()} answers; /adapter NAME changes that")
            return
        chosen = None if name == BASE else name
        resident = chosen is None or self.hub.info(chosen).resident
        start = time.perf_counter()
        self.hub.set_adapter(chosen)
        took = duration(time.perf_counter() - start)
        note(f"{name} answers now ({'switched' if resident else 'loaded and switched'} in {took})")

    def _list(self, _: str) -> None:
        rows = [(BASE, "", "yes")]
        rows += [(info.name, info.variant, "yes" if info.resident else "no") for info in self.hub.adapters()]
        active = self.hub.active_adapter
        who = BASE if active is None else Reference.parse(active).name
        marked = [("*" if name == who else " ", name, variant, resident) for name, variant, resident in rows]
        note(table((" ", "NAME", "VARIANT", "RESIDENT"), marked))

    def _renew(self, _: str) -> None:
        self.messages = list(self._opening)
        note("a new conversation")

    def _quit(self, _: str) -> None:
        self._over = True

    def _unknown(self, _: str) -> None:
        note(f"no such command; there are {' '.join(self._commands)}")

    def _who(self) -> str:
        return self.hub.active_adapter or BASE
