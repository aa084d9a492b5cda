"""Disk, host memory, device, merged: how adapters move between them, and that memory comes back."""

from __future__ import annotations

import gc
import json
import shutil
import threading

import pytest
import torch
from peft import LoraConfig, VeraConfig
from transformers import LlamaConfig

from adapter_hub import AdapterHub, Settings
from adapter_hub.cli import main
from adapter_hub.errors import CorruptFile, NoRoom
from adapter_hub.loading import AdapterLoader
from adapter_hub.memory import process_bytes
from adapter_hub.testing import VOCABULARY, logits, save_tiny_base

from .models import save_adapter


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
    with AdapterHub.from_pretrained(base, quantization=None, device="cpu") as hub:
        for seed in range(2):
            hub.register(f"a{seed}", tmp_path / f"a{seed}")

        def use():
            for name in ("a0", "a1"):
                hub.merge(name)
                hub.generate("hi", adapter=name, max_new_tokens=2)
            hub.generate(["hi", "ho"], adapters=["a0", "a1"], max_new_tokens=2)

        use()
        hub.unload()
        before, tensors = process_bytes(), _tensor_bytes()
        use()
        memory = hub.memory()
        held = sum(memory.adapters.values()) + sum(memory.merged.values()) + memory.stacked
        assert held > 100 << 20
        assert process_bytes() > before + 0.6 * held
        assert _tensor_bytes() >= tensors + held
        hub.unload()
        assert _tensor_bytes() == tensors
        assert process_bytes() < before + 0.5 * held  # the rest are pages of threads that still run


def _tensor_bytes():
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


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
    assert went == [(1, ["a@1", "b@1"]), (0, ["a@1", "b@1"]), (0, ["b@1"]), (0, [])] or went[2][1] == ["a@1"]
    assert sorted(hub.memory().adapters) == ["c@1"]
    went.clear()
    hub.pin("c")
    with pytest.raises(NoRoom, match="no memory for an adapter of"):
        hub.load_adapter("a")
    assert sorted(hub.memory().adapters) == ["c@1"]


def test_a_hub_tells_where_an_adapter_lies(hub):
    assert (hub.tier("a"), hub.tier("b")) == ("device", "disk")
    hub.unload("a", keep_on_host=True)
    assert hub.tier("a") == "host"
    hub.load_adapter("b")
    assert hub.tier("b") == "device"
    hub.unload()
    assert (hub.tier("a"), hub.tier("b"), hub.tier("a*0.5")) == ("disk", "disk", "disk")
