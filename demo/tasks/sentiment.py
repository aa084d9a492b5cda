"""A short review is positive, negative or neutral."""

from __future__ import annotations

import random
from typing import Literal

from .sentiment_opinions import ASPECT_OPINIONS, CONCLUSIONS, GENERAL_FACTS, JUDGEMENTS, WHOLE_OPINIONS
from .sentiment_subjects import SUBJECTS, Subject
from .task import Example, Split, Task
from .wording import an, same_words, sentence

Polarity = Literal["positive", "negative"]

_INSTRUCTION = "Is this review positive, negative or neutral? A review that only states facts is neutral."
_MONTHS = "January February March April May June July August September October November December".split()


def draw(rng: random.Random, split: Split) -> Example:
    """One review of something of the split."""
    subject = rng.choice(SUBJECTS[split])
    label = rng.choice(("positive", "negative", "neutral"))
    if label == "neutral":
        parts = _facts(rng, split, subject, rng.randint(2, 3))
    else:
        parts = _opinions(rng, split, subject, "positive" if label == "positive" else "negative")
    return Example(f"{_INSTRUCTION}\n\n{' '.join(map(sentence, parts))}", label)


def _facts(rng: random.Random, split: Split, subject: Subject, count: int) -> list[str]:
    """Some things to know; where and when stands before what it is like."""
    general = [rng.choice(GENERAL_FACTS[split])] if rng.random() < 0.4 else []
    chosen = general + rng.sample(subject.facts, count - len(general))
    return [_filled(rng, fact, subject) for fact in chosen]


def _opinions(rng: random.Random, split: Split, subject: Subject, polarity: Polarity) -> list[str]:
    """Opinions of one polarity, or of both with a clear conclusion; a fact may stand in front."""
    kind = rng.random()
    if kind < 0.2:
        parts = [_mixed(rng, split, subject, polarity)]
    elif kind < 0.55:
        parts = [_on_aspect(rng, split, subject, polarity), _on_whole(rng, split, subject, polarity)]
        rng.shuffle(parts)
    elif kind < 0.8:
        parts = [_on_aspect(rng, split, subject, polarity)]
    else:
        parts = [_on_whole(rng, split, subject, polarity)]
    return _facts(rng, split, subject, 1) + parts if rng.random() < 0.4 else parts


def _on_whole(rng: random.Random, split: Split, subject: Subject, polarity: Polarity) -> str:
    return _filled(rng, rng.choice(WHOLE_OPINIONS[polarity][split]), subject)


def _on_aspect(rng: random.Random, split: Split, subject: Subject, polarity: Polarity) -> str:
    """What somebody thinks of one side of the subject, or of two."""
    if rng.random() < 0.3:
        return _filled(rng, rng.choice(ASPECT_OPINIONS[polarity][split]), subject)
    aspect, other = rng.sample(subject.aspects, 2)
    judged = f"the {aspect} {subject.verb_for(aspect)} {rng.choice(JUDGEMENTS[polarity][split])}"
    if rng.random() < 0.35:
        judged += f" and the {other} {subject.verb_for(other)} {rng.choice(JUDGEMENTS[polarity][split])}"
    return f"{judged}{rng.choice('..!')}"


def _mixed(rng: random.Random, split: Split, subject: Subject, polarity: Polarity) -> str:
    """A judgement of the other polarity on one side, and a conclusion that outweighs it."""
    other: Polarity = "negative" if polarity == "positive" else "positive"
    aspect = rng.choice(subject.aspects)
    judged = f"the {aspect} {subject.verb_for(aspect)} {rng.choice(JUDGEMENTS[other][split])}"
    return f"{judged}, but {_filled(rng, rng.choice(CONCLUSIONS[polarity][split]), subject)}"


def _filled(rng: random.Random, text: str, subject: Subject) -> str:
    thing = subject.name.removeprefix("this ")
    return text.format(
        it=subject.name,
        thing=thing,
        a=an(thing),
        aspect=rng.choice(subject.aspects),
        n=rng.randint(3, 60),
        m=rng.randint(2, 9),
        month=rng.choice(_MONTHS),
    )


TASK = Task(
    name="sentiment",
    title="Sentiment of reviews",
    description=(
        "Tells whether a short review of a product, a meal, a film or a stay is positive, negative or neutral, that "
        "is, only states facts; reviews with two sides go by their conclusion."
    ),
    held_out=(
        "The unseen reviews are about other subjects, and none of their opinions and facts is worded as in training."
    ),
    max_new_tokens=4,
    draw=draw,
    score=same_words,
)
