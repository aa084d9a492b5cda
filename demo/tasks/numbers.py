"""A number written in words becomes digits."""

from __future__ import annotations

import random

from .number_words import Spelling, in_hundreds, in_words
from .splits import drawn_for
from .task import Example, Split, Task
from .wording import lines, same_words, sentence

_INSTRUCTION = "Write the number in this text in digits, without commas."
_PLAIN_SHARE = 0.25
_HUNDREDS_SHARE = 0.25

# Around any number, zero and one among them; "a hundred" does not fit here.
_FRAMES: dict[Split, tuple[str, ...]] = {
    "train": lines("""
        The answer is {n}.
        The counter shows {n}.
        Please write down {n}.
        Page {n} is missing.
        Ticket number {n} wins a prize.
        The code is {n}.
        Turn to chapter {n}.
        My score was {n}.
        Call extension {n}.
        Then the screen said {n} and went dark.
        The balance stands at {n}.
        Bus {n} stops here.
        Locker {n} is yours.
        The result is {n}, they told us.
        Add {n} to the total.
        She typed {n} by mistake.
        Order {n} is ready.
        Is it {n}?
    """),
    "held_out": lines("""
        The display reads {n}.
        Parcel {n} got lost.
        He guessed {n}.
        Press {n} to go on.
        The pointer stopped at {n}.
        Form {n} is out of print.
        The sum comes to {n}.
    """),
}
# Around a number of things, two or more.
_COUNTING_FRAMES: dict[Split, tuple[str, ...]] = {
    "train": lines("""
        The village has {n} inhabitants.
        We sold {n} tickets.
        {n} people signed the letter.
        The bridge cost {n} euros.
        The farm keeps {n} hens.
        There are {n} books in the cellar.
        The ship carried {n} crates of tea.
        He walked {n} steps yesterday.
        The library lent out {n} films last year.
        They planted {n} trees along the river.
        It took {n} days to build.
        The plant makes {n} screws an hour.
        {n} visitors came to the fair.
        Please order {n} envelopes.
        The stadium holds {n} fans.
        She earned {n} points.
        Their lorry weighs {n} kilograms.
        The film has been watched {n} times.
        I counted {n} birds on the lake.
        The museum owns {n} coins.
        {n} votes were cast.
        The prize is {n} pounds.
        A swarm of {n} bees moved in.
        We need {n} bricks for the wall.
    """),
    "held_out": lines("""
        The bakery made {n} rolls this week.
        {n} runners reached the goal.
        The island has {n} goats.
        A new roof would cost {n} dollars.
        The archive keeps {n} letters.
        The tank holds {n} litres.
        The town bought {n} lamps.
        {n} seats are taken.
        Her novel has {n} words.
    """),
}


def draw(rng: random.Random, split: Split) -> Example:
    """One number of the split, alone or in a sentence."""
    number = drawn_for(split, lambda: _draw_number(rng))
    one = "one"
    if rng.random() < _PLAIN_SHARE:
        frame = "{n}"
    elif number < 2 or rng.random() < 0.3:
        frame = rng.choice(_FRAMES[split])
    else:
        frame, one = rng.choice(_COUNTING_FRAMES[split]), rng.choice(("one", "a"))
    text = sentence(frame.format(n=_write(rng, number, one)))
    return Example(f"{_INSTRUCTION}\n\n{text}", str(number))


def _draw_number(rng: random.Random) -> int:
    """A number of one to six digits; many have zeros, which are what is easily got wrong."""
    length = rng.choices(range(1, 7), (1, 3, 6, 8, 8, 8))[0]
    zeros = rng.choice((0.0, 0.0, 0.3, 0.6))
    first = str(rng.randint(0 if length == 1 else 1, 9))
    rest = ("0" if rng.random() < zeros else str(rng.randint(0, 9)) for _ in range(length - 1))
    return int(first + "".join(rest))


def _write(rng: random.Random, number: int, one: str) -> str:
    joint = rng.choice((" and ", " and ", " "))
    if joint == " ":
        one = "one"  # "a hundred four thousand" is nobody's English
    spelling = Spelling(joint, hyphen=rng.choice(("-", "-", "-", " ")), one=one, comma=rng.choice(("", ",")))
    if 1100 <= number <= 9999 and number // 100 % 10 and rng.random() < _HUNDREDS_SHARE:
        return in_hundreds(number, spelling)
    return in_words(number, spelling)


TASK = Task(
    name="numbers",
    title="Number words to digits",
    description=(
        "Reads a whole number in words, from zero to 999,999, alone or in a sentence, and writes it in digits: "
        "with or without hyphens and the word and, twelve hundred as well as one thousand two hundred."
    ),
    held_out=(
        "The unseen numbers, one in eight by a hash, are never asked for in training, and their sentences are others."
    ),
    max_new_tokens=8,
    draw=draw,
    score=same_words,
)
