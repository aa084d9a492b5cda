"""Tables that give a value to modules by pattern: regular expressions that come from an adapter's file.

PEFT matches ``re.match(rf"(.*\\.)?({pattern})$", path)`` and takes the first that does. A pattern can take
exponential time there, so those that are more than a name run in an engine that stops when their time is up.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import Any

import regex

from adapter_hub.errors import UnsupportedFeature

from .peft_settings import is_number

SECONDS = 1.0
MAX_LENGTH = 1000
MAX_REPEATS = 1000
NAME = re.compile(r"(\^?)([\w.-]+)\$?")
REPEATS = re.compile(r"\{(\d+)")
# What Python's own engine and this one read alike: no back references, flags, fuzzy counts or nested sets.
COMMON_SYNTAX = re.compile(
    r"(?:[^\\\[(){*+?]|\\[dDwWsSbAZ\W_]|\((?!\?)|\(\?(?:[:=!]|<[=!])|\)|[*+?]|\{(?:\d+(?:,\d*)?|,\d+)\}"
    r"|\[\^?(?:\\[dDwWsS\W_]|(?!--|\|\||&&|~~)[^\\\[\]])+\])*+",
    re.DOTALL,
)


@dataclass(frozen=True)
class _Entry:
    """A pattern; ``tail`` is how every path that it matches ends."""

    pattern: str
    tail: str
    body: str
    anchored: bool
    engine: Any
    value: float

    def matches(self, path: str, seconds: float) -> bool:
        if self.engine is not None:
            return self.engine.match(path, timeout=max(seconds, 1e-3)) is not None
        start = len(path) - len(self.body)
        if start < 0 or (start and (self.anchored or path[start - 1] != ".")):
            return False
        # A dot of the pattern stands for any character; nearly always it meets one.
        return path.endswith(self.body) or all(p in (".", c) for p, c in zip(self.body, path[start:], strict=True))


class PatternTable:
    """The values of ``field``, a mapping of patterns to numbers in an adapter's config, by module.

    Raises:
        UnsupportedFeature: it is no such mapping, or a pattern is not one that can be matched safely.
    """

    def __init__(self, field: str, table: object) -> None:
        self._field = field
        self._seconds = SECONDS
        if not isinstance(table, dict) or not all(map(is_number, table.values())):
            raise UnsupportedFeature(
                f"{field} is not a table of regular expressions and numbers.", hint="Save the adapter from PEFT again."
            )
        self._entries: list[_Entry] = []
        for pattern, value in table.items():
            begun = time.thread_time()
            self._entries.append(self._entry(pattern, value))
            self._spend(begun, pattern)

    def value_of(self, path: str) -> float | None:
        """What the first pattern that matches a module's path says, or None.

        Raises:
            UnsupportedFeature: the patterns take too long.
        """
        if not self._entries or "\n" in path or len(path) > MAX_LENGTH:
            return None  # no module is called so: ``.`` and ``$`` treat a line's end apart
        begun, entry = time.thread_time(), None
        for entry in self._entries:
            if path.endswith(entry.tail):
                try:
                    if entry.matches(path, self._seconds):
                        return entry.value
                except TimeoutError:
                    raise self._slow(entry.pattern) from None
        if entry is not None:
            self._spend(begun, entry.pattern)
        return None

    def _entry(self, pattern: str, value: float) -> _Entry:
        name = NAME.fullmatch(pattern)
        if name is not None:
            body = name[2]
            return _Entry(pattern, body.rpartition(".")[2], body, bool(name[1]), None, value)
        # The engine writes repeats out when it compiles, and nested ones multiply.
        repeats = math.prod(int(count) for count in REPEATS.findall(pattern[:MAX_LENGTH]))
        if len(pattern) > MAX_LENGTH or repeats > MAX_REPEATS or not COMMON_SYNTAX.fullmatch(pattern):
            raise UnsupportedFeature(
                f"{self._field} {pattern!r} is longer than {MAX_LENGTH} characters or uses syntax that is not served.",
                hint="Name the modules, or use groups, sets and small counts only.",
            )
        try:
            re.compile(pattern)
            return _Entry(pattern, "", "", False, regex.compile(rf"(.*\.)?({pattern})$"), value)
        except (re.error, regex.error, RecursionError, OverflowError) as error:
            raise UnsupportedFeature(
                f"{self._field} {pattern!r} is no regular expression: {error}.",
                hint="Save the adapter from PEFT again.",
            ) from error

    def _spend(self, begun: float, pattern: str) -> None:
        self._seconds -= time.thread_time() - begun
        if self._seconds < 0:
            raise self._slow(pattern)

    def _slow(self, pattern: str) -> UnsupportedFeature:
        return UnsupportedFeature(
            f"{self._field} takes more than {SECONDS:g} s to match, up to the pattern {pattern!r}.",
            hint="Write the pattern without nested repeats, or name the modules.",
        )
