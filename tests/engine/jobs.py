"""Requests for a hub with three adapters, and what it has to be when they have ended."""

from __future__ import annotations

import random

NAMES = (None, "a", "b", "c")
PROMPTS = ["select all", "a", "the quick brown fox jumps", "Mail to: x@y.z " * 4, "12345678901234567"]


def draw_jobs(count, seed=0):
    """So many prompts, each with an adapter and a number of new tokens."""
    draw = random.Random(seed)
    return [(draw.choice(PROMPTS), draw.choice(NAMES), draw.choice([1, 5, 12, 30])) for _ in range(count)]


def hold_empty(hub):
    """Nothing is in use, and no page has leaked."""
    load = hub.load()
    assert (load.active, load.waiting, load.pages) == (0, 0, 0)
    assert not any(hub._residents.in_flight().values())
