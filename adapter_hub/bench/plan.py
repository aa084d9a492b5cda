"""Which requests a load is made of, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

DISTRIBUTIONS = ("uniform", "zipf")
PROMPTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Name three uses of a paper clip.",
    "How many days are there in a leap year, and why?",
    "Explain to a child why the sky is blue, in two sentences.",
    "Give me a short recipe for pancakes, with amounts.",
    "Summarise in one line: The committee met on Monday, could not agree on the budget, and will meet again next week.",
    "Turn this into a polite question: Send me the report now.",
    "What is the difference between a list and a tuple in Python? Answer with an example of each.",
    "Table: employees(id, name, salary, city). Write one SQL query for the names of all employees who live in Rome.",
)


@dataclass(frozen=True)
class Job:
    """One request of a load.

    Args:
        adapter: the model to ask for.
        prompt: what to say to it.
        at: seconds from the start at which it arrives; 0 where others make room for it.
    """

    adapter: str
    prompt: str
    at: float = 0.0


def plan(
    adapters: Sequence[str],
    num_requests: int,
    *,
    distribution: str = "uniform",
    rate: float | None = None,
    prompts: Sequence[str] = PROMPTS,
    seed: int = 0,
) -> list[Job]:
    """The requests of a load; equal arguments give equal ones.

    Args:
        adapters: model names; under ``zipf`` the k-th is asked for in proportion to 1/k.
        num_requests: how many.
        distribution: ``uniform`` or ``zipf``.
        rate: arrivals a second on the average, at random moments (a Poisson process); None is all at once.
        prompts: drawn from uniformly.
        seed: of the draw.
    """
    draw = random.Random(seed)
    weights = [1 / (k + 1) if distribution == "zipf" else 1.0 for k in range(len(adapters))]
    jobs, at = [], 0.0
    for adapter in draw.choices(adapters, weights, k=num_requests):
        at += draw.expovariate(rate) if rate else 0.0
        jobs.append(Job(adapter, draw.choice(prompts), at))
    return jobs
