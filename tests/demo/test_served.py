"""The trained adapters on the real base in NF4: they win by far, and the same alone as in a batch with the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter_hub import AdapterHub, Settings
from demo.tasks import get_task

ADAPTERS = Path(__file__).parents[2] / "demo" / "adapters"
NAMES = ["sql", "contact"]
COUNT = 12


@pytest.fixture(scope="module")
def hub():
    with AdapterHub.from_pretrained(settings=Settings()) as hub:
        for name in NAMES:
            hub.register(name, ADAPTERS / name)
        yield hub


@pytest.fixture(scope="module")
def examples():
    return {name: get_task(name).examples("held_out", COUNT, seed=77) for name in NAMES}


def _share(name, examples, completions) -> float:
    task = get_task(name)
    right = [task.score(example.answer, c.text) for example, c in zip(examples, completions, strict=True)]
    return sum(right) / len(right)


def _chats(examples):
    return [[{"role": "user", "content": example.prompt}] for example in examples]


def test_each_adapter_wins_by_far_alone_and_beside_the_other(hub, examples):
    new = max(get_task(name).max_new_tokens for name in NAMES)
    alone, base = {}, {}
    for name in NAMES:
        chats = _chats(examples[name])
        alone[name] = _share(name, examples[name], hub.generate(chats, adapter=name, max_new_tokens=new))
        few = hub.generate(chats[:3], adapter=None, max_new_tokens=new)
        base[name] = _share(name, examples[name][:3], few)
    pairs = [pair for both in zip(*(_chats(examples[name]) for name in NAMES), strict=True) for pair in both]
    mixed = hub.generate(pairs, adapters=NAMES * COUNT, max_new_tokens=new)
    for k, name in enumerate(NAMES):
        together = _share(name, examples[name], mixed[k :: len(NAMES)])
        # Other roundings of bfloat16 may tip one answer of a batch; no more than that.
        assert abs(together - alone[name]) <= 1 / COUNT
        assert min(together, alone[name]) >= 0.8
        assert base[name] <= 0.34


def test_the_wrong_adapter_does_not_do_the_others_task(hub, examples):
    chats = _chats(examples["sql"][:4])
    crossed = hub.generate(chats, adapter="contact", max_new_tokens=32)
    assert _share("sql", examples["sql"][:4], crossed) == 0
