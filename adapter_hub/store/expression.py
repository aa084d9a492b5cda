"""Expressions: a weighted sum of adapters, as a request writes it in place of a name.

    sql*0.7+med*0.3        two adapters
    sql@2*0.5              half the effect of one

What stands before ``*`` is whatever names one adapter; a term without a weight has weight 1.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from ..errors import RequestError

MAX_TERMS = 16
HINT = "Write name*weight, joined by +, as in sql*0.7+med*0.3."
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf(?:inity)?)"
_TERM = re.compile(rf"\s*([A-Za-z0-9][A-Za-z0-9._:@-]*)\s*(?:\*\s*({_NUMBER})\s*)?(\+|$)", re.IGNORECASE)


def is_expression(text: str) -> bool:
    """Whether a text is written as a sum or a multiple of adapters: no name holds ``*`` or ``+``."""
    return "*" in text or "+" in text


@dataclass(frozen=True)
class Expression:
    """References and their weights; a reference that is written twice has the sum of its weights."""

    weights: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an expression.

        Raises:
            RequestError: it is not written as one, a weight is no finite number, or it has too many terms.
        """
        weights: dict[str, float] = {}
        position, more = 0, True
        while more:
            term = _TERM.match(text, position)
            if term is None:
                raise RequestError(f"{text!r} cannot be read from {text[position:]!r} on.", hint=HINT)
            reference, number, plus = term.groups()
            weight = 1.0 if number is None else float(number)
            check_weight(reference, weight)
            weights[reference] = weights.get(reference, 0.0) + weight
            position, more = term.end(), plus == "+"
        if len(weights) > MAX_TERMS:
            raise RequestError(
                f"an expression names {len(weights)} adapters, at most {MAX_TERMS} may be summed in a request.",
                hint="Compose them once under a name of their own, and ask for that.",
            )
        return cls(weights)

    def __str__(self) -> str:
        """Written out, in the order of its references: equal sums are written alike."""
        return "+".join(f"{reference}*{weight!r}" for reference, weight in sorted(self.weights.items()))

    @property
    def names(self) -> frozenset[str]:
        """The names among its references, without versions and aliases."""
        return frozenset(re.split("[@:]", reference, maxsplit=1)[0] for reference in self.weights)


def check_weight(reference: str, weight: object) -> None:
    """Raise ``RequestError`` unless a weight is a finite number."""
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise RequestError(f"the weight of {reference!r} is {weight!r}.", hint="Give a finite number.")


def sum_digest(parts: Iterable[tuple[str, float]]) -> str:
    """The identity of a weighted sum, from (digest, weight) of its parts, in any order.

    That of a single part with weight 1 is its own: they are the same function.
    """
    weights = gathered(parts)
    if len(weights) == 1 and set(weights.values()) == {1.0}:
        return next(iter(weights))
    text = "".join(f"{digest} {weight.hex()}\n" for digest, weight in sorted(weights.items()))
    return hashlib.sha256(f"weighted sum\n{text}".encode()).hexdigest()


def gathered(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Weights by digest: equal contents have the sum of theirs, and what comes to nothing is left out."""
    weights: dict[str, float] = {}
    for digest, weight in parts:
        weights[digest] = weights.get(digest, 0.0) + weight
    return {digest: weight for digest, weight in weights.items() if weight}
