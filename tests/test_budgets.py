"""What adapters may take of memory: who makes room for whom, who is refused, and that it all comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, VeraConfig
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from adapter_hub import Settings
from adapter_hub.engine.paged import PagedBatch
from adapter_hub.errors import NoRoom
from adapter_hub.testing import VOCABULARY, logits, save_tiny_base

from .every import NAMES
from .models import save_adapter
from .tiers import tier_of


def test_unload_gives_its_memory_back_to_torch_and_to_the_system(tmp_path):
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=8,
    )
    base = save_tiny_base(tmp_path / "base", config)
    wide = LoraConfig(r=256, target_modules="all-linear")
    for seed in range(2):
        save_adapter(base, tmp_path / f"a{seed}", wide, seed=seed)
    command = [sys.executable, "-m", "tests.unloading", base, *(tmp_path / f"a{seed}" for seed in range(2))]
    told = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True).stdout
    figures = json.loads(told.splitlines()[-1])
    _, held, left = figures["held"]
    assert held > 100 << 20
    assert left == 0
    before, meanwhile, after = figures["tensors"]
    assert meanwhile >= before + held
    assert after == before
    before, meanwhile, after = figures["process"]
    assert meanwhile > before + 0.9 * held
    assert after < before + 0.05 * held


def test_what_goes_when_the_device_runs_short(hub, folders, monkeypatch):
    """Merged weights first, then idle slots, the longest unused first; then it is refused with the numbers."""
    for name, folder in zip("bc", folders[1:], strict=True):
        hub.register(name, folder)
    hub.load_adapter("b")
    hub.merge("a")
    places, went = hub._residents.places, []
    install = places.bank.install

    def short(*given):
        went.append((len(hub.memory().merged), sorted(hub.memory().adapters)))
        if len(went) < 4:
            raise torch.OutOfMemoryError("out of memory")
        return install(*given)

    monkeypatch.setattr(places.bank, "install", short)
    hub.load_adapter("c")
    both = ["a@1", "b@1"]
    assert went == [(1, both), (0, both), (0, ["a@1"]), (0, [])], "a was used last"
    assert sorted(hub.memory().adapters) == ["c@1"]
    went.clear()
    hub.pin("c")
    with pytest.raises(NoRoom, match="no memory for an adapter of"):
        hub.load_adapter("a")
    assert sorted(hub.memory().adapters) == ["c@1"]


def test_a_batch_of_more_adapters_than_find_room_is_refused_and_those_that_do_are_served(open_hub, folders, ids):
    hub = open_hub(settings=Settings(max_resident=2))
    for name, folder in zip("abc", folders, strict=True):
        hub.register(name, folder)
    with pytest.raises(NoRoom, match="At most 2 adapters"):
        logits(hub, ["a", "b", "c"], ids.repeat(3, 1))
    alone = [logits(hub, [name], ids) for name in "abc"]
    for pair in ([0, 1], [1, 2], [2, 0]):
        found = logits(hub, ["abc"[k] for k in pair], ids.repeat(2, 1))
        torch.testing.assert_close(found, torch.cat([alone[k] for k in pair]), atol=1e-4, rtol=0)


def test_a_budget_smaller_than_one_adapter_says_what_it_would_take(open_hub, folders):
    hub = open_hub(settings=Settings(device_bytes=1000, patience=2))
    size = hub.register("a", folders[0]).bytes
    said = rf"no room for an adapter of {size:,} bytes: 0 adapters are resident.* 1,000 bytes .*: raise device_bytes\."
    for attempt in (lambda: hub.generate("x", adapter="a"), lambda: hub.load_adapter("a"), lambda: hub.merge("a")):
        with pytest.raises(NoRoom, match=said):
            attempt()
    assert hub.generate("x", max_new_tokens=1).adapter is None
    assert (tier_of(hub, "device").limit, tier_of(hub, "device").used) == (1000, 0)


def test_device_bytes_are_what_adapters_take_there_and_not_what_their_files_do(open_hub, folders):
    for folder in folders:
        path = folder / "adapter_model.safetensors"
        save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    probe = open_hub(settings=Settings(adapter_dtype="float32"))
    one, size = probe.load_adapter(folders[0], "a").bytes, probe.memory().adapters["a@1"]
    assert size == 2 * one
    hub = open_hub(settings=Settings(adapter_dtype="float32", device_bytes=2 * size))
    for name, folder in zip("abc", folders, strict=True):
        hub.register(name, folder)
        hub.generate("x", adapter=name, max_new_tokens=1)
    assert sorted(hub.memory().adapters) == ["b@1", "c@1"]
    assert tier_of(hub, "device").used == 2 * size == tier_of(hub, "device").limit
    narrow = open_hub(settings=Settings(adapter_dtype="float32", device_bytes=3 * one))
    for name, folder in zip("abc", folders, strict=True):
        narrow.register(name, folder)
    done = narrow.generate(["x"] * 3, adapters=list("abc"), max_new_tokens=4)  # two fit by their files, and one does
    assert [one.text for one in done] == [hub.generate("x", adapter=name, max_new_tokens=4).text for name in "abc"]
    assert tier_of(narrow, "device").used == size


def test_projections_that_adapters_share_are_of_their_budget_too(bases, open_hub, tmp_path):
    config = VeraConfig(r=8, target_modules=["q_proj", "up_proj"])
    folders = [save_adapter(bases(), tmp_path / f"v{k}", config, seed=k) for k in range(3)]
    probe = open_hub()
    own, whole = probe.load_adapter(folders[0], "v").key, probe.memory().shared
    own = probe.memory().adapters[own]
    assert whole > 3 * own > 0
    hub = open_hub(settings=Settings(device_bytes=2 * whole + 3 * own))
    for k, folder in enumerate(folders):
        hub.load_adapter(folder, f"v{k}")
        assert tier_of(hub, "device").used == whole + (k + 1) * own
    small = open_hub(settings=Settings(device_bytes=whole + own - 1))
    with pytest.raises(NoRoom):
        small.load_adapter(folders[0], "v")


def test_a_step_without_memory_gets_it_from_what_is_merged_and_then_from_idle_slots(hub, monkeypatch):
    expected = hub.generate(["x", "y"], adapters=["a", None], max_new_tokens=6)
    hub.load_adapter("b")
    hub.merge("b")
    own, short = PagedBatch._forward, []

    def forward(batch, running):
        memory = hub.memory()
        if memory.merged or "b@1" in memory.adapters:
            short.append((len(memory.merged), len(memory.adapters)))
            raise torch.OutOfMemoryError("out of memory")
        return own(batch, running)

    monkeypatch.setattr(PagedBatch, "_forward", forward)
    assert [done.token_ids for done in hub.generate(["x", "y"], adapters=["a", None], max_new_tokens=6)] == [
        done.token_ids for done in expected
    ]
    assert short == [(1, 2), (0, 2)]
    assert hub.memory().host.keys() == {"b@1"}, "what gave up its slot comes back without its files"


@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT on saved embeddings
def test_what_an_adapter_will_take_is_known_before_it_has_a_slot(full_hub):
    places = full_hub._residents.places
    for name in NAMES:
        loaded, _ = full_hub._residents.loaded(name)
        expected = places.bank.cost(loaded.updates, loaded.shared)
        slot = places.slots.find(full_hub.load_adapter(name).key)
        assert expected == places.bank.bytes(slot) + sum(places.bank.shared_blocks(slot).values()), name
        full_hub.unload(name)
