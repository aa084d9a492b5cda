"""A process of its own that writes to a registry, for tests that share the file with it or kill it."""

from __future__ import annotations

import pickle
import random
import sys
from dataclasses import replace
from pathlib import Path

from adapter_hub.store import Registry

from .model import INFO, Model, draw, take

SHARED = ("n0", "n1", "n2", "n3")


def take_steps(path: str, seed: str, start: str) -> None:
    """Random steps without end, each told as soon as it is done. They are those of ``replay``."""
    model = pickle.loads(Path(start).read_bytes())
    rng, registry = random.Random(seed), Registry(path, flush_seconds=0.01)
    done = 0
    while True:
        step = draw(rng)
        told = take(step, registry)
        assert told == take(step, model), step
        registry.count_uses([info.key for info in registry.list()])
        done += 1
        sys.stdout.write(f"{done}\n")
        sys.stdout.flush()


def replay(model: Model, seed: str, count: int) -> None:
    """The first steps of ``take_steps``, on a model."""
    rng = random.Random(seed)
    for _ in range(count):
        take(draw(rng), model)


def add_many(path: str, who: str, count: str) -> None:
    """Register content that nobody else has under names that all share, with an alias that follows it."""
    registry = Registry(path)
    for k in range(int(count)):
        info = registry.add(replace(INFO, name=SHARED[k % len(SHARED)], digest=f"{who}-{k}"))
        registry.alias(info.name, who, info.version)
        registry.count_uses([info.key])
    registry.close()


if __name__ == "__main__":
    {"steps": take_steps, "adds": add_many}[sys.argv[1]](*sys.argv[2:])
