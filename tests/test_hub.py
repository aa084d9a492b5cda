"""The facade: register, load, set, unload, remove and rows, from one thread and from several."""

from __future__ import annotations

import threading

import pytest
import torch

from adapter_hub import AdapterHub
from adapter_hub.errors import (
    AdapterInUse,
    BaseMismatch,
    NotRegistered,
    RegistryError,
    RequestError,
    RowMapError,
    SettingError,
)


def _logits(hub, ids):
    with torch.inference_mode():
        return hub.model(ids).logits


def test_register_records_and_load_makes_resident(hub, folders):
    a, b = hub.adapters()
    assert (a.name, a.resident, a.tags) == ("a", True, ("first",))
    assert (b.name, b.resident, b.variant, b.format) == ("b", False, "lora", "peft")
    assert (a.sites, a.ranks, a.source) == (14, (4,), str(folders[0]))
    assert a.bytes == sum(hub.memory().adapters.values())
    assert [info.name for info in hub.adapters(tag="first")] == ["a"]
    assert hub.info("b") == b
    assert hub.load_adapter("b").resident


def test_the_name_is_the_folders_where_none_is_given(open_hub, folders):
    assert open_hub().load_adapter(folders[2]).name == "a2"


@pytest.mark.parametrize("name", ["", "base", "a b", "a/b", "a@2", "a:x", "a*2", "a+b", "-a", "é", "x" * 129])
def test_names_that_cannot_be(name, hub, folders):
    with pytest.raises(RequestError, match="cannot be the name"):
        hub.register(name, folders[2])


def test_two_names_of_one_content_share_their_memory(hub, folders, ids):
    before = hub.memory().adapters["a@1"]
    hub.load_adapter(folders[0], "same")
    assert hub.memory().adapters == {"a@1": before, "same@1": before}
    hub.unload("a")
    with hub.rows(["same"]):
        adapted = _logits(hub, ids)
    assert not torch.equal(adapted, _logits(hub, ids))
    assert hub.memory().adapters == {"same@1": before}


def test_set_adapter_chooses_what_direct_calls_run(hub, ids):
    bare = _logits(hub, ids)
    with hub.rows(["a"]):
        a = _logits(hub, ids)
    hub.set_adapter("b")
    assert (hub.active_adapter, hub.info("b").resident) == ("b", True)
    b = _logits(hub, ids)
    hub.set_adapter("a")
    assert torch.equal(_logits(hub, ids), a)
    hub.set_adapter(None)
    assert torch.equal(_logits(hub, ids), bare)
    assert not torch.equal(a, b)


def test_unload_gives_the_base_back_bit_for_bit(hub, ids):
    modules = dict(hub.model.named_modules())
    weights = {name: p.clone() for name, p in hub.model.named_parameters()}
    bare = _logits(hub, ids)
    hub.set_adapter("a")
    _logits(hub, ids)
    hub.load_adapter("b")
    assert any("forward" in module.__dict__ for name, module in modules.items() if name)
    hub.unload()
    assert not any("forward" in module.__dict__ for name, module in modules.items() if name)
    assert hub.active_adapter is None
    assert hub.memory().adapters == {}
    assert torch.equal(_logits(hub, ids), bare)
    assert all(torch.equal(p, weights[name]) for name, p in hub.model.named_parameters())
    assert [info.resident for info in hub.adapters()] == [False, False]


def test_closing_leaves_the_model_as_transformers_made_it(bases, folders, ids):
    hub = AdapterHub.from_pretrained(bases("llama"), quantization=None)
    model, bare = hub.model, _logits(hub, ids)
    hub.load_adapter(folders[0], "a")
    hub.set_adapter("a")
    hub.close()
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert torch.equal(model(ids).logits, bare)


def test_what_is_in_use_cannot_be_unloaded(hub, gate):
    with hub.rows(["a", None]):
        for attempt in (lambda: hub.unload("a"), hub.unload, lambda: hub.remove("a")):
            with pytest.raises(AdapterInUse, match="'a@1' serves 1 rows"):
                attempt()
        assert hub.info("a").resident
    with gate.shut(after=10):
        stream = hub.stream("hello", adapter="a", max_new_tokens=40)
        next(stream)
        with pytest.raises(AdapterInUse):
            hub.unload("a")
    stream.close()
    hub.unload("a")
    assert not hub.info("a").resident


def test_a_registry_of_another_base_is_asked_again(folders, open_hub, tmp_path):
    first = open_hub(registry=tmp_path / "r.sqlite3")
    first.register("a", folders[0])
    first.close()
    other = open_hub("llama-tied", registry=tmp_path / "r.sqlite3")
    with pytest.raises(BaseMismatch, match="trained on"):
        other.set_adapter("a")
    assert other.active_adapter is None


def test_unknown_names_are_refused_everywhere(hub):
    for attempt in (
        lambda: hub.set_adapter("x"),
        lambda: hub.unload("x"),
        lambda: hub.remove("x"),
        lambda: hub.info("x"),
        lambda: hub.generate("hi", adapter="x"),
        lambda: list(hub.stream("hi", adapter="x")),
        lambda: hub.rows(["a", "x"]).__enter__(),
    ):
        with pytest.raises(NotRegistered, match=r"'x'.*Registered: a, b"):
            attempt()
    assert hub._residents.in_flight() == {"a@1": 0}


def test_rows_and_batch_must_agree(hub, ids):
    with hub.rows(["a", None]), pytest.raises(RowMapError, match="2 adapters were given for a batch of 3 rows"):
        hub.model(ids.repeat(3, 1))


def test_swaps_never_land_inside_somebody_elses_forward(hub, ids):
    """Three threads run forwards of their own adapters while a fourth swaps, loads and unloads."""
    names = ["a", "b", None]
    expected = {}
    for name in names:
        with hub.rows([name]):
            expected[name] = _logits(hub, ids)
    done, failures = threading.Event(), []

    def run(name):
        while not done.is_set():
            with hub.rows([name]):
                if not torch.equal(_logits(hub, ids), expected[name]):
                    failures.append(name)

    def direct():
        while not done.is_set():
            logits = _logits(hub, ids)
            if not any(torch.equal(logits, known) for known in expected.values()):
                failures.append("default")

    threads = [threading.Thread(target=run, args=(name,)) for name in names] + [threading.Thread(target=direct)]
    for thread in threads:
        thread.start()
    for k in range(150):
        hub.set_adapter(names[k % 3])
        if k % 5 == 0:
            try:
                hub.unload(("a", "b")[k % 2])
            except AdapterInUse:
                continue
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(hub._residents.in_flight().values()) <= {0}


def test_a_registry_file_outlives_the_hub(open_hub, folders, tmp_path):
    path = tmp_path / "deep" / "registry.sqlite3"
    first = open_hub(registry=path)
    first.register("a", folders[0], tags=["x"])
    first.close()
    second = open_hub(registry=path)
    assert second.info("a").tags == ("x",)
    assert second.generate("hi", adapter="a", max_new_tokens=2).adapter == "a"
    (tmp_path / "broken").write_bytes(b"this is no database, whatever its name says" * 50)
    with pytest.raises(RegistryError, match="cannot be opened"):
        open_hub(registry=tmp_path / "broken")


def test_settings_of_the_base_that_do_not_exist(open_hub):
    for options in (
        {"quantization": "int3"},
        {"dtype": "float7"},
        {"device": "abacus"},
        {"device": "cuda:99"},
        {"device": "meta"},
    ):
        with pytest.raises(SettingError, match=next(iter(options.values()))):
            open_hub(**options)
