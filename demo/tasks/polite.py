"""A blunt sentence becomes a polite one; the kind of sentence decides how."""

from __future__ import annotations

import random
from collections.abc import Callable

from .polite_phrases import (
    COMMANDS,
    CONDITIONS,
    FAULTS,
    LEAVES,
    PROHIBITIONS,
    REFUSALS,
    TIMES,
    WHEREABOUTS,
    WISHED_ACTS,
    WISHED_THINGS,
)
from .task import Example, Split, Task
from .wording import same_words, sentence

_INSTRUCTION = (
    "Say it politely. Request: Could you please ...? Asking leave: May I please ...? Complaint: I am afraid ... "
    "Refusal: I am sorry, but I cannot ... Wish: I would like ..., please. Question: Could you please tell me ...?"
)


def draw(rng: random.Random, split: Split) -> Example:
    """One blunt sentence of the split."""
    blunt, polite = rng.choices(_KINDS, _SHARES)[0](rng, split)
    return Example(f"{_INSTRUCTION}\n\n{sentence(blunt)}", polite)


def _timed(rng: random.Random, phrase: str, share: float = 0.4) -> str:
    return f"{phrase} {rng.choice(TIMES)}" if rng.random() < share else phrase


def _request(rng: random.Random, split: Split) -> tuple[str, str]:
    act = _timed(rng, rng.choice(COMMANDS[split]))
    blunt = rng.choice(
        ("{}.", "{}.", "{}!", "You must {}.", "You have to {}.", "I need you to {}.", "I expect you to {}.", "Just {}.")
    )
    return blunt.format(act), f"Could you please {act}?"


def _prohibition(rng: random.Random, split: Split) -> tuple[str, str]:
    act = rng.choice(PROHIBITIONS[split])
    blunt = rng.choice(("Don't {}.", "Don't {}!", "Do not {}.", "You must not {}.", "Never {}!", "Hey, don't {}!"))
    return blunt.format(act), f"Could you please not {act}?"


def _leave(rng: random.Random, split: Split) -> tuple[str, str]:
    act = _timed(rng, rng.choice(LEAVES[split]))
    blunt = rng.choice(("Let me {}.", "Let me {}!", "You have to let me {}.", "You must let me {}.", "Just let me {}."))
    return blunt.format(act), f"May I please {act}?"


def _complaint(rng: random.Random, split: Split) -> tuple[str, str]:
    fault = rng.choice(FAULTS[split])
    fault += rng.choice(("", "", "", " again"))
    blunt = rng.choice(("{}.", "{}.", "{}!", "Look, {}.", "Hey, {}!", "Look here, {}!", "No good: {}.", "Listen, {}."))
    return blunt.format(fault), f"I am afraid {fault}."


def _refusal(rng: random.Random, split: Split) -> tuple[str, str]:
    act = _timed(rng, rng.choice(REFUSALS[split]), share=0.25)
    blunt = rng.choice(
        ("I can't {}.", "I cannot {}.", "No, I can't {}.", "I won't {}.", "No, I won't {}!", "I can't {}!")
    )
    return blunt.format(act), f"I am sorry, but I cannot {act}."


def _wish(rng: random.Random, split: Split) -> tuple[str, str]:
    wish = rng.choice(WISHED_THINGS[split]) if rng.random() < 0.5 else f"to {rng.choice(WISHED_ACTS[split])}"
    return rng.choice(("I want {}.", "I want {}!", "Hey, I want {}.")).format(wish), f"I would like {wish}, please."


def _question(rng: random.Random, split: Split) -> tuple[str, str]:
    """A question about a place or time, or whether something is so; the verb moves to the end or behind its subject."""
    if rng.random() < 0.5:
        word, thing, verb = rng.choice(WHEREABOUTS[split])
        blunt, indirect = f"{word} {verb} {thing}?", f"{word} {thing} {verb}"
    else:
        thing, verb, state = rng.choice(CONDITIONS[split])
        blunt, indirect = f"{verb} {thing} {state}?", f"whether {thing} {verb} {state}"
    if rng.random() < 0.3:
        blunt = f"{rng.choice(('Tell me', 'Quick', 'Hey'))}: {blunt}"
    return blunt, f"Could you please tell me {indirect}?"


_KINDS: tuple[Callable[[random.Random, Split], tuple[str, str]], ...] = (
    _request,
    _prohibition,
    _leave,
    _complaint,
    _refusal,
    _wish,
    _question,
)
_SHARES = (26, 10, 12, 16, 12, 12, 12)

TASK = Task(
    name="polite",
    title="Blunt to polite",
    description=(
        "Rewrites a blunt sentence to a colleague or a shop by fixed conventions, one for each kind of sentence: "
        "requests, asking leave, complaints, refusals, wishes and questions."
    ),
    held_out="The unseen sentences are made of phrases, verb and thing together, none of which occurs in training.",
    max_new_tokens=20,
    draw=draw,
    score=same_words,
)
