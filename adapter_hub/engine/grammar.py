"""Texts that keep to a JSON schema or a regular expression: which tokens may come next.

llguidance reads the grammars and computes the masks. It is an extra (``serve``), so it is imported when first asked
for.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from ..errors import RequestError
from .prompts import Voice
from .sampling import Sampling

MAX_KEPT = 64  # compiled grammars of one tokenizer
# Between the parts of a JSON text: enough for indented text, and an end to a model that writes nothing but spaces.
WHITESPACE = r"[\x20\x0A\x0D\x09]{1,16}"


class Constraint:
    """A grammar, and how far the text of one sequence has come in it.

    Args:
        matcher: llguidance's.
        field: of ``Sampling``, which the grammar came from.
    """

    def __init__(self, matcher: Any, field: str) -> None:
        self.matcher = matcher
        self.field = field
        self._taken = 0

    def fresh(self) -> Constraint:
        """The same grammar for another sequence, at its beginning."""
        return Constraint(self.matcher.deep_copy(), self.field)

    def follow(self, generated: Sequence[int]) -> None:
        """Go on to the end of what has been generated.

        Raises:
            RequestError: the grammar asks for more work at one token than is allowed.
        """
        self.matcher.consume_tokens(list(generated[self._taken :]))
        self._taken = len(generated)
        self._hold()

    def bits(self) -> bytes:
        """One bit for each token id, the lowest first: whether it may come next."""
        bits: bytes = self.matcher.compute_bitmask()
        self._hold()
        return bits

    def _hold(self) -> None:
        if self.matcher.is_error():
            raise _refused(self.field, self.matcher.get_error())


def allowed(constraints: Sequence[Constraint], vocabulary: int) -> Tensor:
    """Which tokens may come next in each sequence.

    Returns:
        [constraints, vocabulary] bool, on the CPU.
    """
    mask = torch.zeros(len(constraints), vocabulary, dtype=torch.bool)
    for row, constraint in zip(mask, constraints, strict=True):
        bits = np.unpackbits(np.frombuffer(constraint.bits(), np.uint8), bitorder="little")[:vocabulary]
        row[: len(bits)] = torch.from_numpy(bits.view(bool))
    return mask


def constraint_of(voice: Voice, sampling: Sampling) -> Constraint | None:
    """What the texts of a request have to keep to; None is nothing.

    Raises:
        RequestError: the schema or expression cannot be read, or uses what llguidance does not know.
    """
    for field in ("json_schema", "regex"):
        given = getattr(sampling, field)
        if given is not None:
            return _grammars_of(voice).constraint(field, given)
    return None


class _Grammars:
    """Compiled grammars over one tokenizer, those used last. Safe from any thread."""

    def __init__(self, voice: Voice) -> None:
        self._library = _library()
        self._tokenizer = _tokenizer(voice)
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def constraint(self, field: str, given: Any) -> Constraint:
        source = self._source(field, given)
        with self._lock:
            matcher = self._kept.get(source)
            if matcher is not None:
                self._kept.move_to_end(source)
        if matcher is None:
            limits = self._library.LLParserLimits(verbose_errors=False)
            matcher = self._library.LLMatcher(self._tokenizer, source, log_level=0, limits=limits)
            # The first mask of a large grammar may take a second: here it keeps no other request waiting.
            matcher.compute_bitmask()
            if matcher.is_error():
                raise _refused(field, matcher.get_error())
            with self._lock:
                self._kept[source] = matcher
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
        return Constraint(matcher, field)

    def _source(self, field: str, given: Any) -> str:
        matcher = self._library.LLMatcher
        try:
            if field == "regex":
                return str(matcher.grammar_from_regex(given))
            text = given if isinstance(given, str) else json.dumps(_plain(given))
            return str(matcher.grammar_from_json_schema(text, defaults={"whitespace_pattern": WHITESPACE}))
        except (TypeError, ValueError, RecursionError) as error:
            raise _refused(field, str(error)) from error


_of_tokenizer: WeakKeyDictionary[Any, dict[frozenset[int], _Grammars]] = WeakKeyDictionary()
_making = threading.Lock()


def _grammars_of(voice: Voice) -> _Grammars:
    # The tables of a large vocabulary take a second and tens of megabytes: voices with one tokenizer share them.
    with _making:
        made = _of_tokenizer.setdefault(voice.tokenizer, {})
        if voice.stop_ids not in made:
            made[voice.stop_ids] = _Grammars(voice)
        return made[voice.stop_ids]


def _library() -> Any:
    try:
        return importlib.import_module("llguidance")
    except ImportError as error:
        raise RequestError(
            "json_schema and regex need the package llguidance, which is not installed.",
            hint="Install adapter-hub[serve].",
        ) from error


def _tokenizer(voice: Voice) -> Any:
    if not voice.stop_ids:
        raise RequestError(
            "json_schema and regex need a token that ends a text, this model's tokenizer has none.",
            hint="Ask without them.",
        )
    try:
        from_tokenizer = importlib.import_module("llguidance.hf").from_tokenizer
        return from_tokenizer(voice.tokenizer, eos_token=sorted(voice.stop_ids))
    except ValueError as error:
        raise RequestError(
            f"json_schema and regex cannot be held to with this tokenizer ({type(voice.tokenizer).__name__}): {error}.",
            hint="Ask without them.",
        ) from error


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _refused(field: str, reason: str) -> RequestError:
    said = reason.partition("\n<")[0].strip().rstrip(".")  # what follows is the parser's own state
    return RequestError(f"{field}: {said}.", hint="See llguidance for what can be written there.")
