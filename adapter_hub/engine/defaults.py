"""Defaults: what requests to an adapter have where they do not say. Held against ``Sampling`` when they are set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import RequestError
from .sampling import Sampling

SYSTEM_PROMPT = "system_prompt"
MAX_PROMPT_LEN = 100_000
# What holds a text to a form belongs to the request that reads it: as a default it would forbid the other form.
_OF_A_REQUEST = ("json_schema", "regex")
_NAMES = tuple(entry.name for entry in fields(Sampling) if entry.name not in _OF_A_REQUEST)
_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}


def check_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of defaults, in values that JSON has; None stands for a default that is to go.

    Args:
        given: ``system_prompt`` and fields of ``Sampling`` by name.

    Raises:
        RequestError: there is no such field, or it cannot have this value; the message names it.
    """
    return {name: _checked(name, value) for name, value in given.items()}


def _checked(name: str, value: Any) -> Any:
    if name != SYSTEM_PROMPT and name not in _NAMES:
        raise RequestError(
            f"{name!r} is nothing that requests have a default of.",
            hint=f"Defaults: {SYSTEM_PROMPT}, {', '.join(_NAMES)}.",
        )
    if value is None:
        return None
    if name == SYSTEM_PROMPT:
        if not _is_text(value) or not 0 < len(value) <= MAX_PROMPT_LEN:
            raise _wrong(name, value, f"Give a text of at most {MAX_PROMPT_LEN} characters.")
        return value
    plain = _plain(name, value)
    held: dict[str, Any] = {name: tuple(plain) if name == "stop" else plain}
    Sampling(**held)
    return plain


def _plain(name: str, value: Any) -> Any:
    if name == "stop":
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(map(_is_text, texts)):
            raise _wrong(name, value, "Give a list of texts.")
        return list(texts)
    if name == "logit_bias":
        if not isinstance(value, Mapping):
            raise _wrong(name, value, "Give a number for each token id.")
        try:
            return {int(token): float(bias) for token, bias in value.items()}
        except (TypeError, ValueError) as error:
            raise _wrong(name, value, "Give a number for each token id.") from error
    declared = next(str(entry.type) for entry in fields(Sampling) if entry.name == name)
    kinds = _KINDS[declared.partition(" ")[0]]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise _wrong(name, value, f"Give a value of type {kinds[-1].__name__}.")
    return value


def _is_text(value: Any) -> bool:
    """Whether it is a text that can be written out: halves of surrogate pairs cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong(name: str, value: Any, hint: str) -> RequestError:
    return RequestError(f"the default {name} cannot be {value!r}.", hint=hint)
