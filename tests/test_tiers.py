"""Disk, host memory, device, merged: how adapters move between them, and that memory comes back."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, VeraConfig
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from adapter_hub import AdapterHub, Settings
from adapter_hub.cli import main
from adapter_hub.engine.paged import PagedBatch
from adapter_hub.errors import AdapterInUse, CorruptFile, NoRoom
from adapter_hub.loading import AdapterLoader
from adapter_hub.testing import VOCABULARY, logits, save_tiny_base

from .every import NAMES
from .models import save_adapter
from .until import SECONDS


@pytest.fixture
def reads(monkeypatch):
    """The folders that were read."""
    load, found = AdapterLoader.load, []
    monkeypatch.setattr(
        AdapterLoader,
        "load",
        lambda self, fetched, *given, **named: (
            found.append(fetched.folder.name),
            load(self, fetched, *given, **named),
        )[1],
    )
    return found


def _tier(hub, name):
    return next(tier for tier in hub.memory().tiers if tier.name == name)


def test_what_is_kept_on_the_host_comes_back_without_its_files(hub, folders, ids, reads):
    expected, bare = logits(hub, ["a"], ids), logits(hub, [None], ids)
    taken = hub.memory().adapters["a@1"]
    hub.unload("a", keep_on_host=True)
    assert (hub.memory().adapters, hub.memory().host) == ({}, {"a@1": taken})
    assert torch.equal(logits(hub, [None], ids), bare)
    shutil.rmtree(folders[0])
    assert torch.equal(logits(hub, ["a"], ids), expected)
    assert (hub.memory().adapters, hub.memory().host) == ({"a@1": taken}, {}), "its bytes are held once"
    assert reads == []
    assert _tier(hub, "host").hits == 1


def test_a_hub_tells_the_fastest_tier_of_each_adapter(hub):
    digest = hub.info("a").digest
    assert hub.tiers() == {digest: "device"}, "what lies on disk alone is not told"
    hub.merge("a")
    assert hub.tiers() == {digest: "merged"}
    hub.unload("a", keep_on_host=True)
    assert hub.tiers() == {digest: "host"}
    hub.unload("a")
    assert hub.tiers() == {}


def test_what_is_freed_altogether_is_read_again_and_a_change_of_its_file_is_noticed(hub, folders, ids, reads):
    expected = logits(hub, ["a"], ids)
    hub.unload("a", keep_on_host=True)
    shutil.copy(folders[1] / "adapter_model.safetensors", folders[0])
    assert torch.equal(logits(hub, ["a"], ids), expected), "the host's copy is what was registered, and served as such"
    hub.unload("a", keep_on_host=True)
    hub.unload("a")
    assert hub.memory().host == {}
    with pytest.raises(CorruptFile, match="is not what was registered"):
        hub.set_adapter("a")
    assert reads == ["a0"]


def test_the_least_recently_used_goes_when_host_bytes_are_spent(open_hub, folders, reads):
    probe = open_hub()
    probe.load_adapter(folders[0], "a")
    one = probe.memory().adapters["a@1"]
    hub = open_hub(settings=Settings(host_bytes=2 * one))
    for name, folder in zip("abc", folders, strict=True):
        hub.load_adapter(folder, name)
    for name in "abc":
        hub.unload(name, keep_on_host=True)
    assert hub.memory().host == {"b@1": one, "c@1": one}
    assert (_tier(hub, "host").evictions, _tier(hub, "host").limit) == (1, 2 * one)
    reads.clear()
    for name in "cba":
        hub.load_adapter(name)
    assert reads == ["a0"]
    hub.unload(keep_on_host=True)
    hub.unload()
    assert hub.memory().host == {}
    nothing = open_hub(settings=Settings(host_bytes=0))
    nothing.load_adapter(folders[0], "a")
    nothing.unload("a", keep_on_host=True)
    assert nothing.memory().host == {}
    assert nothing.generate("hi", adapter="a", max_new_tokens=1).adapter == "a"


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_shared_tensors_casts_and_voices_come_back_as_they_were(dtype, bases, open_hub, ids, tmp_path, reads):
    hub = open_hub(settings=Settings(adapter_dtype=dtype))
    vera = VeraConfig(r=8, target_modules=["q_proj", "up_proj"])
    for seed in (1, 2):
        folder = save_adapter(bases(), tmp_path / f"v{seed}", vera, seed=seed)
        (folder / "chat_template.jinja").write_text(
            "{% for m in messages %}" + str(seed) + "{{ m.content }}{% endfor %}"
        )
        hub.load_adapter(folder, f"v{seed}")
    before, message = hub.memory(), [{"role": "user", "content": "hi"}]
    expected = [(logits(hub, [name], ids), hub.generate(message, adapter=name)) for name in ("v1", "v2")]
    assert before.shared
    for gone in (["v1"], ["v2"], ["v2", "v1"]):
        for name in gone:
            hub.unload(name, keep_on_host=True)
        for name in ("v1", "v2"):
            hub.load_adapter(name)
        after = hub.memory()
        assert (after.shared, after.adapters, after.host) == (before.shared, before.adapters, {})
        for name, (row, answer) in zip(("v1", "v2"), expected, strict=True):
            assert torch.equal(logits(hub, [name], ids), row)
            assert hub.generate(message, adapter=name) == answer
    assert len(reads) == 2


def test_one_of_several_requests_reads_an_adapter(hub, reads):
    hub.unload("a")
    hub.register("same", hub.info("a").source)
    reads.clear()
    start = threading.Barrier(4)

    def ask(name):
        start.wait()
        hub.generate("hi", adapter=name, max_new_tokens=1)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("a", "same", "a", "same")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) <= 2, "one, or another if the first was done before it asked"
    assert len(hub.memory().adapters) == 2


def test_every_tier_tells_what_has_come_and_gone(hub, ids):
    assert [tier.name for tier in hub.memory().tiers] == ["disk", "host", "device", "merged"]
    disk = _tier(hub, "disk")
    assert (disk.entries, disk.used, disk.limit) == (2, sum(info.bytes for info in hub.adapters()), None)
    for names in (["a", "a", None], ["b"], ["a", "b"]):
        logits(hub, names, ids.repeat(len(names), 1))
    device = _tier(hub, "device")
    assert (device.hits, device.misses, device.loads, device.entries) == (4, 1, 2, 2)
    assert device.used == sum(hub.memory().adapters.values())
    assert device.load_seconds > 0
    hub.merge("a")
    logits(hub, ["a"], ids)
    merged = _tier(hub, "merged")
    assert (merged.hits, merged.loads, merged.entries, merged.used) == (1, 1, 1, hub.memory().merged["a@1"])
    assert json.dumps(hub.memory().as_dict())


def test_the_command_line_tells_where_adapters_are_in_running_hubs(bases, folders, tmp_path, capsys):
    registry = tmp_path / "r.sqlite3"
    flags = ["list", "--tiers", "--registry", str(registry)]
    with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", registry=registry) as hub:
        for name, folder in zip("abc", folders, strict=True):
            hub.register(name, folder)
        hub.load_adapter("a")
        hub.load_adapter("b")
        hub.merge("a")
        hub.unload("b", keep_on_host=True)
        assert main(flags) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert [line[1:3] for line in lines[1:4]] == [["device,", "merged"], ["host", "1"], ["disk", "1"]]
        assert lines[5][0] == "process"
        assert [line[:2] for line in lines[6:]] == [
            ["TIER", "ADAPTERS"],
            ["host", "1"],
            ["device", "1"],
            ["merged", "1"],
        ]
        assert main([*flags, "--json"]) == 0
        (told,) = json.loads(capsys.readouterr().out)["hubs"]
        assert [tier["adapters"] for tier in told["tiers"]] == [
            {hub.info("b").digest: hub.memory().host["b@1"]},
            {hub.info("a").digest: hub.memory().adapters["a@1"]},
            {hub.info("a").digest: hub.memory().merged["a@1"]},
        ]
        with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", registry=registry) as other:
            other.set_adapter("c")
            assert main(flags) == 0
            assert "device in " in capsys.readouterr().out.splitlines()[3]
    assert main(flags) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines[1:]] == ["disk"] * 3


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
    assert (_tier(hub, "device").limit, _tier(hub, "device").used) == (1000, 0)


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
    assert _tier(hub, "device").used == 2 * size == _tier(hub, "device").limit
    narrow = open_hub(settings=Settings(adapter_dtype="float32", device_bytes=3 * one))
    for name, folder in zip("abc", folders, strict=True):
        narrow.register(name, folder)
    done = narrow.generate(["x"] * 3, adapters=list("abc"), max_new_tokens=4)  # two fit by their files, and one does
    assert [one.text for one in done] == [hub.generate("x", adapter=name, max_new_tokens=4).text for name in "abc"]
    assert _tier(narrow, "device").used == size


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
        assert _tier(hub, "device").used == whole + (k + 1) * own
    small = open_hub(settings=Settings(device_bytes=whole + own - 1))
    with pytest.raises(NoRoom):
        small.load_adapter(folders[0], "v")


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


def test_a_hub_tells_where_an_adapter_lies(hub):
    assert (hub.tier("a"), hub.tier("b")) == ("device", "disk")
    hub.unload("a", keep_on_host=True)
    assert hub.tier("a") == "host"
    hub.load_adapter("b")
    assert hub.tier("b") == "device"
    hub.unload()
    assert (hub.tier("a"), hub.tier("b"), hub.tier("a*0.5")) == ("disk", "disk", "disk")


def test_requests_of_the_engine_count_among_the_uses_of_the_device(hub):
    before = _tier(hub, "device")
    for name, hits, misses in (("a", 1, 0), ("b", 1, 1), ("b", 2, 1), (None, 2, 1)):
        hub.generate("x", adapter=name, max_new_tokens=1)
        now = _tier(hub, "device")
        assert (now.hits - before.hits, now.misses - before.misses) == (hits, misses), name
