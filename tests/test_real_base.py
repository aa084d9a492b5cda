"""The trained adapters of every variant on the real base in float32: each row's text is that of the row alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter_hub import AdapterHub, Settings
from demo.tasks import get_task
from demo.train.recipe import RECIPES

ADAPTERS = Path(__file__).parents[1] / "demo" / "adapters"
NAMES = [None, *sorted(RECIPES)]
NUM_ROWS = 33
OPTIONS = {"max_new_tokens": 34, "ignore_eos": True}  # more than a page: each row goes on in another one


@pytest.fixture(scope="module")
def hub():
    settings = Settings(max_resident=12)
    with AdapterHub.from_pretrained(quantization=None, dtype="float32", device="cpu", settings=settings) as hub:
        for name in NAMES[1:]:
            hub.register(name, ADAPTERS / name)
        yield hub


def _chat(name):
    task = get_task(name or "polite")
    return [{"role": "user", "content": task.examples("held_out", 1, seed=5)[0].prompt}]


@pytest.fixture(scope="module")
def alone(hub):
    """The tokens of each adapter's prompt, run by itself in an engine that has seen no other row."""
    return {name: hub.generate(_chat(name), adapter=name, **OPTIONS).token_ids for name in NAMES}


def test_a_batch_of_every_variant(hub, alone):
    rows = [NAMES[k % len(NAMES)] for k in range(NUM_ROWS)]
    done = hub.generate([_chat(name) for name in rows], adapters=rows, **OPTIONS)
    for name, completion in zip(rows, done, strict=True):
        assert completion.token_ids == alone[name], name
    assert len(set(alone.values())) == len(NAMES)


def test_arrivals_cancellations_and_evictions(alone):
    settings = Settings(max_resident=3, max_rows=6, max_batch_tokens=48, patience=8)
    with AdapterHub.from_pretrained(quantization=None, dtype="float32", device="cpu", settings=settings) as hub:
        for name in NAMES[1:]:
            hub.register(name, ADAPTERS / name)
        running = []
        for k, name in enumerate([*NAMES, *NAMES[:4]]):
            running.append((name, hub.submit(_chat(name), adapter=name, max_new_tokens=32, ignore_eos=True)))
            if k % 4 == 3:  # the next ones arrive while this one decodes, one is given up then, one before its turn
                next(iter(running[-3][1]), None)
                running[-3][1].cancel()
                running[-1][1].cancel()
        for name, generation in running:
            found = generation.result().token_ids
            assert found == alone[name][: len(found)], name
            assert len(found) == 32 or generation.result().finish_reason == "cancelled"
        assert sum(generation.result().finish_reason == "cancelled" for _, generation in running) >= 4
        assert hub.load().pages == 0
        assert len(hub.memory().adapters) <= 3
