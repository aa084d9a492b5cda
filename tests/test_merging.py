"""Merged weights through the facade: who runs them, budgets, what is in use, failures."""

from __future__ import annotations

import threading

import pytest
import torch

from adapter_hub import Settings
from adapter_hub.errors import AdapterInUse, NoRoom, NotRegistered, SettingError
from adapter_hub.runtime import AdapterBank
from adapter_hub.runtime.site import AdaptedSite
from adapter_hub.testing import logits, random_ids
from adapter_hub.updates import LinearUpdate

from .merging import ONE
from .until import SECONDS


@pytest.fixture
def base_calls(monkeypatch):
    """Counts of what each adapted site does: a product of the base, or an update."""
    calls = []
    output = LinearUpdate.output
    monkeypatch.setattr(LinearUpdate, "output", lambda self, *given: (calls.append("update"), output(self, *given))[1])
    made = AdaptedSite.__init__

    def init(self, *given, **named):
        made(self, *given, **named)
        base = self.base
        self.base = lambda x: (calls.append("base"), base(x))[1]

    monkeypatch.setattr(AdaptedSite, "__init__", init)
    return calls


def test_a_merged_adapter_alone_runs_one_linear_a_site_and_nothing_else(base_calls, hub, ids):
    factors = logits(hub, ["a"], ids)
    assert base_calls.count("base") == base_calls.count("update") == 14
    report = hub.merge("a")
    assert (report.merged_sites, report.kept_sites, report.dtype) == (14, {}, "float32")
    assert report.bytes == ONE == hub.memory().merged["a@1"]
    assert (report.tokens, report.greedy_agreement, report.max_difference) == (0, None, None), "nothing was run"
    base_calls.clear()
    merged = logits(hub, ["a", "a"], ids.repeat(2, 1))
    assert base_calls == []
    torch.testing.assert_close(merged[:1], factors, atol=1e-4, rtol=0)
    logits(hub, ["a", None], ids.repeat(2, 1))
    assert base_calls, "a mixed batch has its factors path"
    base_calls.clear()
    hub.unmerge("a")
    assert torch.equal(logits(hub, ["a"], ids), factors)
    assert base_calls.count("base") == 14


def test_direct_calls_and_generation_run_merged_weights_too(base_calls, hub):
    prompt = "some prompt"
    expected = hub.generate(prompt, adapter="a", max_new_tokens=8)
    hub.merge("a")
    base_calls.clear()
    hub.set_adapter("a")
    assert hub.generate(prompt, max_new_tokens=8) == expected
    assert "".join(hub.stream(prompt, max_new_tokens=8)) == expected.text
    assert base_calls == []
    hits = next(tier.hits for tier in hub.memory().tiers if tier.name == "merged")
    assert hits == 16, "one lease a forward"


def test_the_base_dequantised_is_the_entry_of_the_empty_adapter(open_hub, folders):
    hub = open_hub(quantization="nf4", dtype="float32")
    ids = random_ids(1)
    bare = logits(hub, [None], ids)
    modules = dict(hub.model.named_modules())
    hub.merge(None)
    assert hub.memory().merged == {"base": ONE}
    torch.testing.assert_close(logits(hub, [None], ids), bare, atol=1e-4, rtol=0)
    hub.load_adapter(folders[0], "a")
    factors = logits(hub, ["a"], ids)
    hub.unload("a")
    torch.testing.assert_close(hub.model(ids).logits, bare, atol=1e-4, rtol=0)
    assert hub.merge_report(None).merged_sites == 14
    hub.unload()
    assert hub.memory().merged == {}
    assert not any("forward" in module.__dict__ for name, module in modules.items() if name)
    assert torch.equal(logits(hub, [None], ids), bare)
    assert torch.equal(logits(hub, ["a"], ids), factors), "an adapter's factors lie beside the packed base in any case"


def test_a_base_that_is_not_packed_has_nothing_to_dequantise(hub):
    assert hub.merge(None).bytes == 0


def test_a_budget_smaller_than_one_adapter_is_an_error_with_the_numbers(open_hub, folders, ids):
    hub = open_hub(settings=Settings(merged_bytes=ONE - 1))
    hub.load_adapter(folders[0], "a")
    expected = logits(hub, ["a"], ids)
    said = rf"{ONE:,} bytes find no room in the tier 'merged'.* {ONE - 1:,} bytes .*Raise merged_bytes"
    for attempt in (hub.merge, hub.merge_report):
        with pytest.raises(NoRoom, match=said):
            attempt("a")
    assert torch.equal(logits(hub, ["a"], ids), expected)
    with pytest.raises(NotRegistered):
        hub.merge("x")
    with pytest.raises(NotRegistered):
        hub.unmerge("x")
    with pytest.raises(SettingError, match="merged_bytes is -1"):
        Settings(merged_bytes=-1)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_while_merging_loses_nothing(error, hub, ids, monkeypatch):
    hub.load_adapter("b")
    hub.merge("b")
    expected = logits(hub, ["a"], ids)
    merged, count = LinearUpdate.merged, iter(range(100))

    def short(self, *given):
        if next(count) == 9:
            raise error
        return merged(self, *given)

    monkeypatch.setattr(LinearUpdate, "merged", short)
    with pytest.raises(NoRoom, match=r"no memory left to merge model\.layers\.1"):
        hub.merge("a")
    assert hub.memory().merged == {"b@1": ONE}
    assert next(tier.used for tier in hub.memory().tiers if tier.name == "merged") == ONE
    assert torch.equal(logits(hub, ["a"], ids), expected)
    assert hub.merge("a").merged_sites == 14


def test_no_memory_for_a_slot_takes_it_from_what_is_merged(hub, monkeypatch):
    hub.merge("a")
    install, tries = AdapterBank.install, []

    def short(self, *given):
        tries.append(1)
        if len(tries) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        install(self, *given)

    monkeypatch.setattr(AdapterBank, "install", short)
    assert hub.load_adapter("b").resident
    assert hub.memory().merged == {}
    assert hub.info("a").resident, "what was merged sufficed"
    tries.clear()
    hub.unload("b")
    assert hub.load_adapter("b").resident
    assert not hub.info("a").resident, "then the idle ones go"
    tries.clear()
    hub.unload()
    with pytest.raises(NoRoom, match=r"no memory for an adapter of \d+ bytes: 0 bytes of adapters .*, 0 are merged"):
        hub.load_adapter("b")
    assert not hub.info("b").resident, "with nothing left to surrender"
    assert hub.load_adapter("b").resident


def test_what_a_forward_runs_is_not_freed_before_its_end(hub, ids):
    hub.merge("a")
    expected = logits(hub, ["a"], ids)
    cache, inside, go = hub._residents.places.merged, threading.Event(), threading.Event()
    block = hub.model.model.layers[1].register_forward_pre_hook(lambda *_: (inside.set(), go.wait(SECONDS))[0])
    found = []
    thread = threading.Thread(target=lambda: found.append(logits(hub, ["a"], ids)))
    thread.start()
    assert inside.wait(SECONDS)
    assert cache.surrender(ONE) == 0
    with pytest.raises(AdapterInUse):
        hub.unload("a")
    hub.unmerge("a")
    assert cache.report()[0].used == ONE, "its bytes are somebody's until the forward ends"
    assert hub.memory().merged == {}
    go.set()
    thread.join()
    block.remove()
    assert torch.equal(found[0], expected)
    assert cache.report()[0].used == 0


def test_a_completion_tells_how_many_of_its_tokens_came_of_merged_weights(hub):
    def merged(**adapters):
        done = hub.generate(["one two"] * 2, max_new_tokens=4, ignore_eos=True, **adapters)
        return [each.merged_tokens for each in done]

    assert merged(adapter="a") == [0, 0]
    hub.merge("a")
    assert merged(adapter="a") == [4, 4]
    assert merged(adapters=["a", "b"])[1] == 0, "nothing was merged of b"
    hub.unmerge("a")
    assert merged(adapter="a") == [0, 0]
