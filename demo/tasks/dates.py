"""A date in any of many written forms becomes an ISO date."""

from __future__ import annotations

import random
from datetime import date, timedelta

from .dates_forms import FRAMES_AHEAD, FRAMES_PAST, write_date
from .splits import drawn_for
from .task import Example, Split, Task
from .wording import same_words, sentence

_INSTRUCTION = "Write the date in this text as YYYY-MM-DD."
_FIRST, _TODAY, _LAST = date(1900, 1, 1), date(2024, 12, 31), date(2039, 12, 31)


def draw(rng: random.Random, split: Split) -> Example:
    """One sentence with one date of the split."""
    is_past = rng.random() < 0.75
    first, last = (_FIRST, _TODAY) if is_past else (_TODAY + timedelta(1), _LAST)
    day = drawn_for(split, lambda: first + timedelta(rng.randint(0, (last - first).days)))
    frame = rng.choice((FRAMES_PAST if is_past else FRAMES_AHEAD)[split])
    text = frame.format(
        d=write_date(rng, day),
        n=rng.randint(2, 99),
        number=rng.randint(100, 9999),
        hour=f"{rng.randint(8, 19)}:{rng.choice((0, 15, 30, 45)):02}",
    )
    return Example(f"{_INSTRUCTION}\n\n{sentence(text)}", day.isoformat())


TASK = Task(
    name="dates",
    title="Dates to ISO",
    description=(
        "Finds the date in a sentence, in digits, words or both, with or without a weekday, and writes it as "
        "YYYY-MM-DD. It knows years from 1900 to 2039 and leaves out forms that two countries read differently."
    ),
    held_out=(
        "The unseen dates, one day in eight by a hash, do not occur in training in any form, and neither do the "
        "sentences around them."
    ),
    max_new_tokens=14,
    draw=draw,
    score=same_words,
)
