"""A short text about three things becomes three tags."""

from __future__ import annotations

import random

from .tags_topics import CLOSINGS, KINDS, OPENINGS, TOPICS, WEEKDAYS, Kind
from .task import Example, Split, Task
from .wording import plain, sentence

_INSTRUCTION = (
    "Give three tags, the three things this text reports on, in its order, in lower case, without articles, "
    "parted by commas."
)
_OPENING_SHARE = 0.4
_CLOSING_SHARE = 0.3
_REQUEST_SHARE = 0.2
_COMMANDS = ("please ", "do not ")
_MONTHS = "January February March April May June July August September October November December".split()


def draw(rng: random.Random, split: Split) -> Example:
    """One text about three things of the split."""
    kinds = [rng.choice(KINDS) for _ in range(3)]
    topics: list[str] = []
    for kind in kinds:
        topics.append(rng.choice([topic for topic in TOPICS[kind.name][split] if topic not in topics]))
    text = _text(rng, [_statement(rng, kind, topic) for kind, topic in zip(kinds, topics, strict=True)])
    if rng.random() < _OPENING_SHARE:
        text = f"{_filled(rng, rng.choice(OPENINGS))} {text}"
    if rng.random() < _CLOSING_SHARE:
        text = f"{text} {_filled(rng, rng.choice(CLOSINGS))}"
    return Example(f"{_INSTRUCTION}\n\n{text}", ", ".join(topics))


def _statement(rng: random.Random, kind: Kind, topic: str) -> str:
    """What there is to say about the topic: news with it in front, or something that we or you must do."""
    with_article = topic if kind.is_bare else f"the {topic}"
    if rng.random() < _REQUEST_SHARE:
        return _filled(rng, rng.choice(kind.requests), with_article)
    return f"{with_article} {_filled(rng, rng.choice(kind.news))}"


def _text(rng: random.Random, statements: list[str]) -> str:
    """The three statements as three sentences, or as two of which one holds two."""
    first, second, third = statements
    joint = rng.choice((", and ", ", while ", ", but ", "; "))
    shape = rng.random()
    sentences = statements
    # A command stands alone: "..., while please read the report" is no English.
    if shape < 0.35 and not first.startswith(_COMMANDS) and not second.startswith(_COMMANDS):
        sentences = [f"{first}{joint}{second}", third]
    elif 0.35 <= shape < 0.65 and not second.startswith(_COMMANDS) and not third.startswith(_COMMANDS):
        sentences = [first, f"{second}{joint}{third}"]
    return " ".join(f"{sentence(words)}." for words in sentences)


def _filled(rng: random.Random, text: str, topic: str = "") -> str:
    """``text`` with the topic, and with times and amounts, which are no tags."""
    return text.format(
        t=topic,
        day=rng.choice(WEEKDAYS),
        month=rng.choice(_MONTHS),
        hour=f"{rng.randint(7, 21)}:{rng.choice((0, 15, 30)):02}",
        n=rng.randint(2, 30),
    )


def score(answer: str, output: str) -> bool:
    """Whether both are the same tags in the same order, but for white space, case and a final full stop."""
    return [tag.strip() for tag in plain(answer).split(",")] == [tag.strip() for tag in plain(output).split(",")]


TASK = Task(
    name="tags",
    title="Tags for a text",
    description=(
        "Reads two or three sentences of news or notes and gives three tags: the things that they are about, in their "
        "order, without what is said of them, when or how much."
    ),
    held_out="The unseen texts are about things whose names, word for word, do not occur in training.",
    max_new_tokens=20,
    draw=draw,
    score=score,
)
