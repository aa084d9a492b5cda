"""A customer's message to a shop goes to one of six teams."""

from __future__ import annotations

import random

from .task import Example, Split, Task
from .triage_messages import CLOSINGS, OPENINGS, PRAISE, PRODUCTS
from .triage_problems import PROBLEMS, TEAMS
from .wording import an, plural, same_words, sentence

_INSTRUCTION = f"Which team should answer this message: {', '.join(TEAMS[:-1])} or {TEAMS[-1]}?"
_OPENING_SHARE = 0.55
_PRAISE_SHARE = 0.25
_CLOSING_SHARE = 0.4


def draw(rng: random.Random, split: Split) -> Example:
    """One message of the split, about one problem of one team."""
    team = rng.choice(TEAMS)
    parts = [rng.choice(PROBLEMS[team][split])]
    if rng.random() < _PRAISE_SHARE:
        # What went well belongs to another team, and nobody needs to answer it.
        parts.insert(0, rng.choice(PRAISE[rng.choice([other for other in PRAISE if other != team])][split]))
    if rng.random() < _OPENING_SHARE:
        parts.insert(0, rng.choice(OPENINGS[split]))
    if rng.random() < _CLOSING_SHARE:
        parts.append(rng.choice(CLOSINGS[split]))
    product = rng.choice(PRODUCTS[split])
    words = {"p": product, "ps": plural(product), "a": an(product), "n": rng.randint(1000, 9999)}
    text = " ".join(sentence(part.format(**words)) for part in parts)
    return Example(f"{_INSTRUCTION}\n\n{text}", team)


TASK = Task(
    name="triage",
    title="Customer messages to teams",
    description=(
        "Reads a customer's message to a shop and names the team that should answer it: billing, delivery, returns, "
        "account, technical or sales."
    ),
    held_out=(
        "The unseen messages are about other products, and none of their sentences, about the problem or around it, "
        "occurs in training."
    ),
    max_new_tokens=4,
    draw=draw,
    score=same_words,
)
