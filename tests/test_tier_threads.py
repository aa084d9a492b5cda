"""Adapters on their way through every tier, moved and used by many threads while loads fail."""

from __future__ import annotations

import itertools
import random
import shutil
import threading
import time
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapter_hub import Settings
from adapter_hub.errors import AdapterInUse, NoRoom
from adapter_hub.loading import AdapterLoader
from adapter_hub.testing import logits

from .until import SECONDS


@pytest.fixture
def many(folders, tmp_path):
    """Five adapters of one size."""
    tensors = load_file(folders[0] / "adapter_model.safetensors")
    for k in range(5):
        shutil.copytree(folders[0], tmp_path / f"m{k}")
        save_file({name: t * (1 + k / 8) for name, t in tensors.items()}, tmp_path / f"m{k}/adapter_model.safetensors")
    return {f"m{k}": tmp_path / f"m{k}" for k in range(5)}


def test_threads_use_and_move_adapters_through_every_tier_while_loads_fail(open_hub, many, ids, monkeypatch):
    """Real budgets, smaller than what is wanted; each answer is right, and no tier ever holds more than its own."""
    probe = open_hub()
    names = [*many, None]
    for name, folder in many.items():
        one = probe.register(name, folder).bytes
    expected = {name: logits(probe, [name], ids) for name in names}
    merged_bytes = probe.merge("m0").bytes
    hub = open_hub(settings=Settings(device_bytes=3 * one, host_bytes=2 * one, merged_bytes=2 * merged_bytes))
    for name, folder in many.items():
        hub.register(name, folder)
    load, seen, failures, done, loads = AdapterLoader.load, Counter(), [], threading.Event(), itertools.count(1)

    def failing(self, *given, **named):
        if next(loads) % 7 == 0:
            raise MemoryError("for a test")
        return load(self, *given, **named)

    monkeypatch.setattr(AdapterLoader, "load", failing)

    def repeat(action, seed):
        rng, before = random.Random(seed), time.monotonic()
        try:
            for k in itertools.count(1):
                try:
                    seen[action(rng)] += 1
                except (NoRoom, AdapterInUse) as error:
                    seen[type(error)] += 1
                if (k >= 80 and seen["used"] > 150 and seen[NoRoom]) or time.monotonic() - before > SECONDS:
                    break
        except BaseException as error:
            failures.append(error)

    def use(rng):
        batch = rng.choices(names, k=rng.choice([1, 1, 2]))
        found = logits(hub, batch, ids.repeat(len(batch), 1))
        torch.testing.assert_close(found, torch.cat([expected[name] for name in batch]), atol=1e-4, rtol=0)
        return "used"

    def move(rng):
        name, what = rng.choice(list(many)), rng.randrange(6)
        match what:
            case 0 | 1:
                hub.merge(name)
            case 2:
                hub.unmerge(name)
            case 3:
                hub.unload(name, keep_on_host=True)
            case 4:
                hub.unload(name)
            case 5:
                hub.pin(name)
                hub.generate("x", adapter=name, max_new_tokens=1)
                hub.unpin(name)
        return f"moved {what}"

    def watch():
        while not done.is_set():
            failures.extend(tier for tier in hub.memory().tiers if tier.used > (tier.limit or tier.used))

    watcher = threading.Thread(target=watch)
    threads = [threading.Thread(target=repeat, args=(use, k)) for k in range(4)]
    threads += [threading.Thread(target=repeat, args=(move, k)) for k in range(2)]
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    assert failures == []
    assert seen["used"] > 150
    assert seen[NoRoom]
    monkeypatch.undo()
    hub.unload()
    assert [tier.used for tier in hub.memory().tiers if tier.name != "disk"] == [0, 0, 0]
    assert not any(hub._residents.in_flight().values())
    for name in names:
        assert torch.equal(logits(hub, [name], ids), expected[name])
