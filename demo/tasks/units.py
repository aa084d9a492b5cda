"""A quantity in one unit becomes the same quantity in another."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from .splits import drawn_for
from .task import Example, Split, Task
from .units_wording import ASKING, PAIRS, TIME_PAIRS, Pair, Unit, ask_about
from .wording import same_words

_INSTRUCTION = "Convert the quantity. Answer with the number and the unit asked for."
_MAX_DECIMALS = 3
_MAX_RESULT = 999_999
_TIME_SHARE = 0.2
_SYMBOL_SHARE = 0.4
_THING_SHARE = 0.4


@dataclass(frozen=True)
class Conversion:
    """A value in ``source`` that ``result`` gives in ``target``."""

    value: Decimal
    source: Unit
    target: Unit
    result: Decimal


def draw(rng: random.Random, split: Split) -> Example:
    """One conversion of the split."""
    make: Callable[[random.Random], Conversion | None] = _time if rng.random() < _TIME_SHARE else _metric
    found = drawn_for(split, lambda: _drawn(rng, make))
    in_symbols = rng.random() < _SYMBOL_SHARE
    source, target = (unit.symbol if in_symbols else unit.plural for unit in (found.source, found.target))
    quantity = f"{written(found.value)} {source}"
    # No jug holds 900 litres, no path is 0.02 kilometres long.
    is_thing = Decimal("0.1") <= found.value <= 300 and rng.random() < _THING_SHARE
    question = ask_about(rng, split, found.source, quantity, target) if is_thing else None
    if question is None:
        question = rng.choice(ASKING[split]).format(q=quantity, t=target)
    return Example(f"{_INSTRUCTION}\n\n{question}", f"{written(found.result)} {target}")


def written(value: Decimal) -> str:
    """``value`` without exponent and without zeros that say nothing: 3200, 0.45."""
    return f"{value.normalize():f}"


def _drawn(rng: random.Random, make: Callable[[random.Random], Conversion | None]) -> Conversion:
    while True:
        # One of anything would need the singular, which is not what is to be learned here.
        if (found := make(rng)) and Decimal(1) not in (found.value, found.result):
            return found


def _metric(rng: random.Random) -> Conversion | None:
    """A conversion by a power of ten; None if the numbers drawn are too long."""
    pair = rng.choice(PAIRS)
    mantissa = rng.randint(1, 10 ** rng.choice((1, 2, 2, 3, 3)) - 1)
    value = (mantissa * Decimal(10) ** rng.choice((-2, -1, -1, 0, 0, 0, 1))).normalize()
    down = rng.random() < 0.5
    result = value * pair.factor if down else value / pair.factor
    if _decimals(value) > 2 or _decimals(result) > _MAX_DECIMALS or result > _MAX_RESULT:
        return None
    return Conversion(value, *_direction(pair, down), result)


def _time(rng: random.Random) -> Conversion:
    """A conversion by sixty of up to twenty wholes, or of a few halves."""
    pair = rng.choice(TIME_PAIRS)
    count = Decimal(rng.randint(2, 20)) if rng.random() < 0.7 else rng.randint(0, 9) + Decimal("0.5")
    down = rng.random() < 0.5
    small = (count * pair.factor).normalize()
    value, result = (count, small) if down else (small, count)
    return Conversion(value, *_direction(pair, down), result)


def _direction(pair: Pair, down: bool) -> tuple[Unit, Unit]:
    return (pair.large, pair.small) if down else (pair.small, pair.large)


def _decimals(value: Decimal) -> int:
    return len(written(value).partition(".")[2])


TASK = Task(
    name="units",
    title="Unit conversion",
    description=(
        "Converts lengths, weights, volumes, money and electrical units by powers of ten, and hours, minutes and "
        "seconds by sixty, in both directions, to at most three decimals."
    ),
    held_out=(
        "The unseen conversions, one value and pair of units in eight by a hash, do not occur in training, and "
        "neither do the questions' wordings."
    ),
    max_new_tokens=16,
    draw=draw,
    score=same_words,
)
