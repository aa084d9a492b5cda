"""What the commands write: answers to stdout, everything beside them to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, cast


def say(text: str = "", *, end: str = "\n") -> None:
    """Write a part of the answer, at once."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def say_stream(pieces: Iterator[str], said: list[str]) -> None:
    """Write pieces of text as they come, and collect them in ``said``, which is right after an error too."""
    # Closed at once when this is interrupted: a generation holds its adapter until then.
    with closing(cast("Generator[str]", pieces)):
        for piece in pieces:
            said.append(piece)
            say(piece, end="")
    say()


def say_json(value: Any) -> None:
    """Write the answer as JSON."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """Write a word beside the answer: a warning, an error, how long something took."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def one_line(error: BaseException) -> str:
    """An error's text on one line, whatever line breaks a library put into it."""
    return printable(" ".join(str(error).split()))


def printable(text: str) -> str:
    """The text with control characters spelt out: a file's own words must not steer the terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
