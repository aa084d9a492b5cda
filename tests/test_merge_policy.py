"""Merging in the background: who is merged by itself and when, whose place is taken, what changes meanwhile."""

from __future__ import annotations

import logging
import threading

import torch

from adapter_hub import Settings
from adapter_hub.errors import AdapterInUse, NoRoom
from adapter_hub.testing import logits, random_ids
from adapter_hub.updates import LinearUpdate

from .merging import ONE, open_auto
from .until import SECONDS, until


def test_the_policy_merges_who_carries_a_run_of_whole_batches(open_hub, folders):
    hub = open_auto(open_hub, folders)
    ids = random_ids(2)
    for _ in range(2):
        logits(hub, ["a", "a"], ids)
    logits(hub, ["a", "b"], ids)
    for _ in range(5):
        logits(hub, ["b", "b"], ids[:, :3])  # too few tokens to gain by it
        logits(hub, ["a", "b"], ids)
    for _ in range(2):
        logits(hub, ["a", "a"], ids)
    assert hub.memory().merged == {}, "a shared batch ends a run"
    assert not hub._residents.places.merged._asked
    logits(hub, ["a", "a"], ids)
    until(lambda: "a@1" in hub.memory().merged)
    factors = logits(hub, ["a"], ids[:1, :3])
    assert torch.equal(factors, logits(hub, ["a"], ids[:1, :3]))
    hub.unmerge("a")
    assert torch.equal(factors, logits(hub, ["a"], ids[:1, :3])), "small batches stay on the factors path"


def test_the_base_goes_first_and_takes_nobodys_place(open_hub, folders):
    hub = open_auto(open_hub, folders, merged_bytes=2 * ONE + ONE // 2)
    ids = random_ids(2)
    quantised = open_hub(
        quantization="nf4",
        dtype="float32",
        settings=Settings(merge_policy="auto", merge_after=3, merge_min_tokens=8, merged_bytes=2 * ONE),
    )
    for name, folder in zip("ab", folders, strict=False):
        quantised.load_adapter(folder, name)
    for _ in range(3):
        logits(quantised, [None, None], ids)
    until(lambda: "base" in quantised.memory().merged)
    quantised.merge("a")
    assert set(quantised.memory().merged) == {"a@1", "base"}
    logits(quantised, [None, None], ids)  # used last, and still the first to go
    quantised.merge("b")
    assert set(quantised.memory().merged) == {"a@1", "b@1"}
    for _ in range(3):
        logits(quantised, [None, None], ids)
    until(lambda: not quantised._residents.places.merged._asked)
    assert set(quantised.memory().merged) == {"a@1", "b@1"}
    for name in "abc":
        hub.merge(name)
    assert list(hub.memory().merged) == ["b@1", "c@1"], "what was used longest ago goes"


def test_what_is_pinned_stays_and_surrender_says_what_it_freed(open_hub, folders):
    hub = open_auto(open_hub, folders, merged_bytes=2 * ONE)
    hub.merge("a", pin=True)
    hub.merge("b")
    hub.merge("c")
    assert list(hub.memory().merged) == ["a@1", "c@1"]
    assert hub._residents.places.merged.surrender(1) == ONE
    assert hub._residents.places.merged.surrender(1) == 0
    hub.merge("a")
    assert hub._residents.places.merged.surrender(1) == ONE, "merged again without a pin, it is none any more"


def test_the_policy_says_once_that_there_is_no_room(open_hub, folders, caplog):
    hub = open_auto(open_hub, folders, merged_bytes=ONE - 1)
    with caplog.at_level(logging.WARNING):
        for _ in range(12):
            logits(hub, ["a"], random_ids(1))
            until(lambda: not hub._residents.places.merged._asked)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["not merged"]


def test_unload_in_the_middle_of_a_background_merge_leaves_nothing(open_hub, folders, monkeypatch):
    hub = open_auto(open_hub, folders)
    merged, inside, go = LinearUpdate.merged, threading.Event(), threading.Event()

    def slow(self, *given):
        inside.set()
        go.wait(SECONDS)
        return merged(self, *given)

    monkeypatch.setattr(LinearUpdate, "merged", slow)
    for _ in range(3):
        logits(hub, ["a"], random_ids(1))
    assert inside.wait(SECONDS)
    logits(hub, ["a"], random_ids(1))  # forwards do not wait for it
    hub.unload("a")
    hub.load_adapter(folders[1], "x")  # takes the slot
    go.set()
    until(lambda: not hub._residents.places.merged._asked)
    assert hub.memory().merged == {}
    assert hub._residents.places.merged.report()[0].used == 0


def test_threads_merge_unmerge_unload_and_run_at_once(open_hub, folders, ids):
    hub = open_auto(open_hub, folders, merged_bytes=2 * ONE)
    names, expected = ["a", "b", "c", None], {}
    for name in names:
        expected[name] = logits(hub, [name], ids)
    done, failures = threading.Event(), []

    def run(name):
        while not done.is_set():
            if not torch.allclose(logits(hub, [name], ids), expected[name], atol=1e-4, rtol=0):
                failures.append(name)

    def change():
        for k in range(60):
            name = "abc"[k % 3]
            try:
                (hub.merge, hub.unmerge, hub.unload)[k % 7 % 3](name)
            except (AdapterInUse, NoRoom):
                continue
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in names]
    changers = [threading.Thread(target=change) for _ in range(2)]
    for thread in (*threads, *changers):
        thread.start()
    for thread in changers:
        thread.join()
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    until(lambda: not hub._residents.places.merged._asked)
    hub.unload()
    assert hub._residents.places.merged.report()[0].used == 0
    for name in names:
        torch.testing.assert_close(logits(hub, [name], ids), expected[name], atol=1e-4, rtol=0)
