"""Arithmetic in words, plain or as a small story, becomes the result as a word."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from .number_words import in_words
from .splits import drawn_for, split_of
from .sums_stories import NAMES, PLAIN, STORIES, THINGS
from .task import Example, Split, Task
from .wording import plural, same_words, sentence

Operation = Literal["plus", "minus", "times"]

_INSTRUCTION = "Work this out. Answer with the number in words."
_STORY_SHARE = 0.5


@dataclass(frozen=True)
class Sum:
    """Two numbers and what to do with them; the result is between 0 and 100."""

    operation: Operation
    first: int
    second: int

    @property
    def result(self) -> int:
        """What comes out."""
        if self.operation == "times":
            return self.first * self.second
        return self.first + (self.second if self.operation == "plus" else -self.second)


def split_of_sum(asked: Sum) -> Split:
    """The split of a sum, by a hash.

    A product is held out in one order of its factors only: nobody, and no model, can infer the times table.
    """
    if asked.operation != "times":
        return split_of(asked)
    low, high = sorted((asked.first, asked.second))
    if low == high or split_of(("product", low, high)) == "train":
        return "train"
    rising_is_out = split_of(("order", low, high)) == "train"
    return "held_out" if (asked.first == low) == rising_is_out else "train"


def draw(rng: random.Random, split: Split) -> Example:
    """One sum of the split, as a question or as a story."""
    operation: Operation = rng.choices(("plus", "minus", "times"), (4, 4, 2))[0]
    asked = drawn_for(split, lambda: _draw_sum(rng, operation), split_of_sum)
    # Stories are about several things, and about some that are left.
    is_story = min(asked.first, asked.second, asked.result) > 1 and rng.random() < _STORY_SHARE
    text = _story(rng, split, asked) if is_story else _plain(rng, asked)
    return Example(f"{_INSTRUCTION}\n\n{sentence(text)}", in_words(asked.result))


def _draw_sum(rng: random.Random, operation: Operation) -> Sum:
    """Numbers that add up to 100 at most: both up to twenty, or one of them below ten or a multiple of it."""
    if operation == "times":
        return Sum("times", rng.randint(1, 10), rng.randint(1, 10))
    while True:
        first, second = rng.choice(
            (
                (rng.randint(0, 20), rng.randint(0, 20)),
                (rng.randint(10, 99), rng.randint(1, 9)),
                (rng.randint(10, 99), 10 * rng.randint(1, 9)),
            )
        )
        if first + second <= 100:
            break
    if operation == "minus":
        return Sum("minus", first + second, second)
    return Sum("plus", first, second) if rng.random() < 0.6 else Sum("plus", second, first)


def _plain(rng: random.Random, asked: Sum) -> str:
    return rng.choice(PLAIN[asked.operation]).format(a=in_words(asked.first), b=in_words(asked.second))


def _story(rng: random.Random, split: Split, asked: Sum) -> str:
    name, other = rng.sample(NAMES[split], 2)
    return rng.choice(STORIES[asked.operation]).format(
        a=in_words(asked.first),
        b=in_words(asked.second),
        name=name,
        other=other,
        things=plural(rng.choice(THINGS[split])),
    )


TASK = Task(
    name="sums",
    title="Sums in words",
    description=(
        "Adds, subtracts and multiplies numbers given in words, as a plain question or a small story, and answers "
        "in words. It knows results up to one hundred, the times tables, and additions and subtractions of numbers "
        "up to twenty, below ten or of full tens."
    ),
    held_out=(
        "The unseen sums, one pair of numbers in eight by a hash, do not occur in training (a product only in the "
        "other order of its factors); names and things in the stories are others."
    ),
    max_new_tokens=7,
    draw=draw,
    score=same_words,
)
