"""Disk, host memory, device, merged: how adapters move between them."""

from __future__ import annotations

import json
import shutil
import threading

import pytest
import torch
from peft import VeraConfig

from adapter_hub import AdapterHub, Settings
from adapter_hub.cli import main
from adapter_hub.errors import CorruptFile
from adapter_hub.loading import AdapterLoader
from adapter_hub.testing import logits

from .models import save_adapter
from .tiers import tier_of


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
    assert tier_of(hub, "host").hits == 1


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
    assert (tier_of(hub, "host").evictions, tier_of(hub, "host").limit) == (1, 2 * one)
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
    disk = tier_of(hub, "disk")
    assert (disk.entries, disk.used, disk.limit) == (2, sum(info.bytes for info in hub.adapters()), None)
    for names in (["a", "a", None], ["b"], ["a", "b"]):
        logits(hub, names, ids.repeat(len(names), 1))
    device = tier_of(hub, "device")
    assert (device.hits, device.misses, device.loads, device.entries) == (4, 1, 2, 2)
    assert device.used == sum(hub.memory().adapters.values())
    assert device.load_seconds > 0
    hub.merge("a")
    logits(hub, ["a"], ids)
    merged = tier_of(hub, "merged")
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


def test_a_hub_tells_where_an_adapter_lies(hub):
    assert (hub.tier("a"), hub.tier("b")) == ("device", "disk")
    hub.unload("a", keep_on_host=True)
    assert hub.tier("a") == "host"
    hub.load_adapter("b")
    assert hub.tier("b") == "device"
    hub.unload()
    assert (hub.tier("a"), hub.tier("b"), hub.tier("a*0.5")) == ("disk", "disk", "disk")


def test_requests_of_the_engine_count_among_the_uses_of_the_device(hub):
    before = tier_of(hub, "device")
    for name, hits, misses in (("a", 1, 0), ("b", 1, 1), ("b", 2, 1), (None, 2, 1)):
        hub.generate("x", adapter=name, max_new_tokens=1)
        now = tier_of(hub, "device")
        assert (now.hits - before.hits, now.misses - before.misses) == (hits, misses), name
