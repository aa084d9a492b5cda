"""References: how a request names an adapter, and what can be a name, an alias or a tag."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from ..errors import NotRegistered, RequestError

BASE_NAME = "base"
MAX_TAG_LEN = 128
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_NAME = re.compile(_WORD)
_REFERENCE = re.compile(rf"({_WORD})(?:@([1-9][0-9]{{0,8}})|:({_WORD}))?")
_LETTERS = "Use letters, digits, '.', '_' and '-', at most 128 of them"


@dataclass(frozen=True)
class Reference:
    """One adapter as a request names it; written out it is the text that ``parse`` reads.

    ``sql`` is the current version of a name, ``sql@2`` its second version, ``sql:stable`` the version that an
    alias stands for. A name and a version together are the key of one registered content, for ever.
    """

    name: str
    version: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference.

        Raises:
            NotRegistered: the text can name no adapter; the hint says what is wrong with it.
        """
        found = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
        if found is None or found[1] == BASE_NAME:
            raise NotRegistered(f"{text!r} names no adapter.", hint=_way_out(text))
        name, version, alias = found.groups()
        return cls(name, int(version) if version else None, alias)

    @property
    def is_name(self) -> bool:
        """Whether it is a name alone."""
        return self.version is None and self.alias is None

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}@{self.version}"
        return self.name if self.alias is None else f"{self.name}:{self.alias}"


def parse_name(text: str) -> str:
    """A name alone, for what concerns all of its versions.

    Raises:
        NotRegistered: the text can name no adapter.
        RequestError: it names one version.
    """
    reference = Reference.parse(text)
    if not reference.is_name:
        raise RequestError(f"{text!r} is one version.", hint=f"Give the name alone, {reference.name!r}.")
    return reference.name


def check_name(name: str) -> None:
    """Raise ``RequestError`` unless an adapter can be called ``name``."""
    if _NAME.fullmatch(name) and name != BASE_NAME:
        return
    hint = f"{_LETTERS}; {BASE_NAME!r} is the bare model."
    if _REFERENCE.fullmatch(name) and name != BASE_NAME:
        hint = "Give the name alone: the registry numbers its versions, and aliases are given afterwards."
    raise RequestError(f"{name!r} cannot be the name of an adapter.", hint=hint)


def check_alias(alias: str) -> None:
    """Raise ``RequestError`` unless a version can be called ``alias``."""
    if not _NAME.fullmatch(alias) or alias.isdecimal():
        raise RequestError(f"{alias!r} cannot be an alias.", hint=f"{_LETTERS}; a number alone is a version.")


def check_tags(tags: Iterable[str]) -> None:
    """Raise ``RequestError`` unless each can be the tag of an adapter."""
    for tag in tags:
        if not tag or not tag.isprintable() or len(tag) > MAX_TAG_LEN:
            raise RequestError(
                f"{tag!r} cannot be a tag.", hint=f"Use printable characters, from 1 to {MAX_TAG_LEN} of them."
            )


def _way_out(text: object) -> str:
    if not isinstance(text, str):
        return "Name it by a string: a name, name@2 or name:alias; None is the base."
    name, mark, _ = min(text.partition("@"), text.partition(":"), key=lambda parts: len(parts[0]))
    if name == BASE_NAME:
        return "It is the bare model: give None, or no adapter."
    if mark and _NAME.fullmatch(name):
        what = "a version, a number from 1" if mark == "@" else "one alias"
        return f"After {mark!r} comes {what}, as in {name}@2 or {name}:stable."
    return "Write a name, name@2 or name:alias."
