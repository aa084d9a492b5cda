"""The trained adapters on the real base in NF4: they win by far, and the same alone as in one batch with all others."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter_hub import AdapterHub, Settings
from demo.tasks import get_task
from demo.train.recipe import RECIPES

ADAPTERS = Path(__file__).parents[2] / "demo" / "adapters"
NAMES = sorted(RECIPES)
COUNT = 4
NEW_TOKENS = 66  # the longest answer, of the task contact


@pytest.fixture(scope="module")
def hub():
    with AdapterHub.from_pretrained(settings=Settings()) as hub:
        for name in NAMES:
            hub.register(name, ADAPTERS / name)
        yield hub


@pytest.fixture(scope="module")
def examples():
    return {name: get_task(name).examples("held_out", COUNT, seed=77) for name in NAMES}


def _right(name, examples, completions) -> list[bool]:
    task = get_task(name)
    return [task.score(example.answer, c.text) for example, c in zip(examples, completions, strict=True)]


def _chats(examples):
    return [[{"role": "user", "content": example.prompt}] for example in examples]


def test_each_adapter_wins_by_far_alone_and_beside_all_others(hub, examples):
    alone = {}
    for name in NAMES:
        new = get_task(name).max_new_tokens
        alone[name] = _right(
            name, examples[name], hub.generate(_chats(examples[name]), adapter=name, max_new_tokens=new)
        )
    chats = [chat for name in NAMES for chat in _chats(examples[name])]
    rows = [name for name in NAMES for _ in range(COUNT)]
    mixed = hub.generate(chats, adapters=rows, max_new_tokens=NEW_TOKENS)
    together = {name: _right(name, examples[name], mixed[k * COUNT : (k + 1) * COUNT]) for k, name in enumerate(NAMES)}
    for name in NAMES:
        # Other roundings of bfloat16 may tip one answer of a batch; no more than that.
        assert abs(sum(together[name]) - sum(alone[name])) <= 1, name
    for found in (alone, together):
        assert sum(sum(right) for right in found.values()) >= 0.85 * COUNT * len(NAMES)
    base = hub.generate([_chats(examples[name])[0] for name in NAMES], adapter=None, max_new_tokens=16)
    assert sum(_right(name, examples[name][:1], [done])[0] for name, done in zip(NAMES, base, strict=True)) <= 2


def test_the_wrong_adapter_does_not_do_the_others_task(hub, examples):
    crossed = hub.generate(_chats(examples["sql"]), adapter="contact", max_new_tokens=32)
    assert not any(_right("sql", examples["sql"], crossed))
