"""A time of day in any of many forms becomes 24-hour digits."""

from __future__ import annotations

import random

from .number_words import in_words
from .splits import drawn_for
from .task import Example, Split, Task
from .wording import lines, same_words, sentence

_INSTRUCTION = "Write the time in this text as HH:MM, in 24 hours."

_FRAMES: dict[Split, tuple[str, ...]] = {
    "train": lines("""
        The train leaves at {t}.
        We meet at {t} in front of the station.
        Her flight lands at {t}, gate {n}.
        The alarm went off at {t}.
        Lunch with {n} guests is at {t}.
        Please be there by {t}.
        The film starts at {t} in room {n}.
        He called me at {t}.
        The shop closes at {t}.
        The last bus, number {n}, goes at {t}.
        It began to rain at {t}.
        My appointment is at {t}.
        At {t} the lights went out.
        The meeting was moved to {t}.
        The baby was born at {t}.
        Dinner is served at {t} on deck {n}.
        The kick-off is at {t}.
        The ferry arrives at {t}.
        Wake me at {t}, please.
        The clock stopped at {t}.
        At {t} all {n} runners were at the start.
        The lesson ends at {t}.
    """),
    "held_out": lines("""
        The concert begins at {t}.
        Doctor Hill can see you at {t}.
        The parcel came at {t} with {n} others.
        At {t} the gates open.
        The interview is set for {t}.
        The tour starts at {t} from pier {n}.
        I finished work at {t}.
        They shut the pool at {t}.
    """),
}


def draw(rng: random.Random, split: Split) -> Example:
    """One sentence with one time of the split."""
    hour, minute = drawn_for(split, lambda: _draw_time(rng))
    text = rng.choice(_FRAMES[split]).format(t=_write(rng, hour, minute), n=rng.randint(2, 60))
    text = text.replace(".m..", ".m.")  # the full stop of "p.m." ends the sentence as well
    return Example(f"{_INSTRUCTION}\n\n{sentence(text)}", f"{hour:02}:{minute:02}")


def _draw_time(rng: random.Random) -> tuple[int, int]:
    minute = rng.choice((0, 15, 30, 45, 5 * rng.randint(0, 11), rng.randint(0, 59), rng.randint(0, 59)))
    return rng.randint(0, 23), minute


def _write(rng: random.Random, hour: int, minute: int) -> str:
    """A form that leaves no doubt which half of the day is meant."""
    if minute == 0 and hour % 12 == 0 and rng.random() < 0.5:
        return "midnight" if hour == 0 else "noon"
    style = rng.random()
    if style < 0.2:
        half = rng.choice(("a.m.", "p.m.") if rng.random() < 0.5 else ("am", "pm"))
        half = half.replace("p", "a") if hour < 12 else half.replace("a", "p")
        digits = f"{_on_the_clock(hour)}" if minute == 0 else f"{_on_the_clock(hour)}{rng.choice(':.')}{minute:02}"
        return f"{digits} {half}"
    if style < 0.3:
        return f"{hour}.{minute:02}" if hour > 12 and rng.random() < 0.5 else f"{hour:02}{minute:02} hours"
    return f"{_spoken(rng, hour, minute)} {_part_of_day(hour)}"


def _spoken(rng: random.Random, hour: int, minute: int) -> str:
    now, following = in_words(_on_the_clock(hour)), in_words(_on_the_clock(hour + 1))
    if minute == 0:
        return rng.choice((now, f"{now} o'clock"))
    if minute == 30:
        return rng.choice((f"half past {now}", f"{now} thirty"))
    if minute in (15, 45):
        article = rng.choice(("", "a "))
        return f"{article}quarter past {now}" if minute == 15 else f"{article}quarter to {following}"
    if minute > 9 and rng.random() < 0.3:
        return f"{now} {in_words(minute)}"
    distance = minute if minute < 30 else 60 - minute
    word = "" if distance % 5 == 0 else (" minute" if distance == 1 else " minutes")
    return f"{in_words(distance)}{word} " + (f"past {now}" if minute < 30 else f"to {following}")


def _on_the_clock(hour: int) -> int:
    return (hour - 1) % 12 + 1


def _part_of_day(hour: int) -> str:
    if hour in (22, 23, 0):
        return "at night"
    if hour < 12:
        return "in the morning"
    return "in the afternoon" if hour < 18 else "in the evening"


TASK = Task(
    name="times",
    title="Times of day to 24 hours",
    description=(
        "Finds the time in a sentence, spoken or in digits, with a part of the day or with a.m. and p.m., and writes "
        "it in 24 hours as HH:MM."
    ),
    held_out=(
        "The unseen times, one minute of the day in eight by a hash, do not occur in training in any form, and "
        "neither do the sentences around them."
    ),
    max_new_tokens=8,
    draw=draw,
    score=same_words,
)
