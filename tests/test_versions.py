"""Versions in a hub: what a call begins with it ends with, and what is served is what was registered."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

import pytest
import torch

from adapter_hub.errors import AdapterInUse, CorruptFile, FormatError, NotRegistered, RequestError, SourceNotFound

DOCS = Path(__file__).parents[1] / "docs" / "registry.md"


@pytest.fixture
def alone(open_hub, folders, ids):
    """Logits of each of the three adapters by itself, from a hub of their own."""
    hub = open_hub()
    return [_logits(hub, ids, hub.load_adapter(folder, f"x{k}").name) for k, folder in enumerate(folders)]


@pytest.fixture
def versioned(hub, folders):
    """The name "a" with versions 1 (resident) and 2 (current), and the alias "a:stable" on version 1."""
    hub.alias("a", "stable")
    assert hub.register("a", folders[2]).key == "a@2"
    return hub


def _logits(hub, ids, *names):
    with hub.rows(names), torch.inference_mode():
        return hub.model(ids.repeat(len(names), 1)).logits


def _default_logits(hub, ids):
    with torch.inference_mode():
        return hub.model(ids).logits


def _spoil(folder, other):
    shutil.copy(other / "adapter_model.safetensors", folder)


def test_versions_and_aliases_share_one_batch(versioned, alone, ids):
    mixed = _logits(versioned, ids, "a@1", "a", None, "a:stable", "b", "a@2")
    expected = [alone[0], alone[2], _logits(versioned, ids, None), alone[0], alone[1], alone[2]]
    torch.testing.assert_close(mixed, torch.cat(expected), atol=1e-4, rtol=0)
    done = versioned.generate(["x"] * 3, adapters=["a:stable", "a@1", "a"], max_new_tokens=8)
    assert [one.adapter for one in done] == ["a:stable", "a@1", "a"], "each is called what the caller called it"
    assert done[0].text == done[1].text
    assert set(versioned.memory().adapters) == {"a@1", "a@2", "b@1"}


def test_a_request_in_flight_ends_on_the_version_with_which_it_began(hub, folders, ids, gate):
    first = hub.generate("tell", adapter="a", max_new_tokens=30).text
    stream = hub.stream("tell", adapter="a", max_new_tokens=30)
    with gate.shut(after=10), hub.rows(["a"]):
        pieces = [next(stream)]
        before = _default_logits(hub, ids)
        hub.load_adapter(folders[2], "a")
        assert torch.equal(_default_logits(hub, ids), before)
        assert hub._residents.in_flight() == {"a@1": 2, "a@2": 0}
    second = hub.generate("tell", adapter="a", max_new_tokens=30).text
    hub.rollback("a")
    assert "".join([*pieces, *stream]) == first
    assert hub.generate("tell", adapter="a", max_new_tokens=30).text == first
    assert hub.generate("tell", adapter="a@2", max_new_tokens=30).text == second != first


def test_the_default_stays_the_version_that_it_was(hub, folders, alone, ids):
    hub.set_adapter("a")
    hub.load_adapter(folders[2], "a")
    assert hub.active_adapter == "a"
    assert torch.equal(_default_logits(hub, ids), alone[0])
    done = hub.generate("x", max_new_tokens=4)
    assert (done.adapter, done.text) == ("a", hub.generate("x", adapter="a@1", max_new_tokens=4).text)
    assert "".join(hub.stream("x", max_new_tokens=4)) == done.text
    hub.set_adapter("a")
    assert torch.equal(_default_logits(hub, ids), alone[2])
    hub.set_adapter("a@1")
    hub.unload("a@1")
    assert hub.active_adapter is None
    hub.set_adapter("a")
    hub.unload("a")
    assert (hub.active_adapter, hub.memory().adapters) == (None, {})


def test_loading_a_name_makes_its_current_version_resident(versioned):
    assert versioned.load_adapter("a").key == "a@2"
    assert [(info.key, info.resident) for info in versioned.versions("a")] == [("a@1", True), ("a@2", True)]
    versioned.unload("a@1")
    assert [info.resident for info in versioned.versions("a")] == [False, True]
    assert versioned.load_adapter("a:stable").key == "a@1"
    versioned.unload("a")
    assert [info.resident for info in versioned.versions("a")] == [False, False]
    with pytest.raises(NotRegistered, match=r"no version 7\. There are a@2, a@1"):
        versioned.load_adapter("a@7")


def test_known_content_stays_its_version(versioned, folders):
    again = versioned.register("a", folders[0], tags=["again"])
    assert (again.key, again.current, again.tags, again.resident) == ("a@1", False, ("again",), True)
    assert versioned.info("a").key == "a@2"
    assert len(versioned.versions("a")) == 2


def test_a_version_is_taken_out_whole_or_not_at_all(versioned, ids):
    before = versioned.adapters(all_versions=True), versioned.memory().adapters
    with versioned.rows(["a:stable"]), pytest.raises(AdapterInUse, match="'a@1' serves 1 rows"):
        versioned.remove("a")
    with versioned.rows(["a@2"]), pytest.raises(AdapterInUse, match="'a@2' serves 1 rows"):
        versioned.remove("a@2")
    versioned.unload("a@2")
    with pytest.raises(AdapterInUse, match="a@1 is what a:stable stands for"):
        versioned.remove("a@1")
    with pytest.raises(RequestError, match="is an alias"):
        versioned.remove("a:stable")
    assert (versioned.adapters(all_versions=True), versioned.memory().adapters) == before
    versioned.unalias("a", "stable")
    versioned.remove("a@1")
    assert versioned.memory().adapters == {}
    assert [info.key for info in versioned.adapters(all_versions=True)] == ["a@2", "b@1"]
    _logits(versioned, ids, "a")
    versioned.remove("a")
    assert versioned.memory().adapters == {}
    assert [info.key for info in versioned.adapters(all_versions=True)] == ["b@1"]


def test_pins_and_uses_are_kept_with_the_adapter(hub, folders):
    assert hub.register("a", folders[2], pin=True).pinned
    assert not hub.info("a@1").pinned
    assert hub.pin("a@1").resident
    assert not hub.unpin("a").pinned
    assert not hub.info("a@1").pinned
    assert hub.load_adapter(folders[1], "c", pin=True).pinned
    hub.generate(["x"] * 3, adapters=["a", "a@1", "a"], max_new_tokens=1)
    hub.set_adapter("a")
    assert [info.uses for info in hub.versions("a")] == [1, 3]
    assert hub.info("b").last_used_at is None
    assert hub.info("a").last_used_at is not None


def test_one_version_whose_file_changed_is_refused_and_the_others_serve(versioned, folders, alone, ids):
    versioned.unload()
    _spoil(folders[0], folders[1])
    for attempt in (lambda: versioned.load_adapter("a:stable"), lambda: versioned.generate("x", adapter="a@1")):
        with pytest.raises(CorruptFile, match=r"'a@1' in .* is not what was registered.*the next version of 'a'"):
            attempt()
    assert torch.equal(_logits(versioned, ids, "a"), alone[2])
    with pytest.raises(CorruptFile, match="'a@1'"):
        versioned.rollback("a")
    assert versioned.info("a").key == "a@2", "nobody is sent to a version that cannot be served"
    third = versioned.register("a", folders[0])
    assert (third.key, third.warnings) == (
        "a@3",
        ("a@1 was registered from this folder too, and can be served from there no more.",),
    )
    assert torch.equal(_logits(versioned, ids, "a"), alone[1])


def test_a_folder_that_vanished_is_told_with_the_version_that_lay_there(versioned, folders, tmp_path):
    versioned.unload()
    away = folders[0].rename(tmp_path / "away")
    for attempt in (lambda: versioned.set_adapter("a@1"), lambda: versioned.rollback("a", 1)):
        with pytest.raises(SourceNotFound, match=rf"'a@1' are gone from {folders[0]}.*does not exist.*Bring them back"):
            attempt()
    assert versioned.active_adapter is None
    folders[0].mkdir()
    with pytest.raises(FormatError, match=str(folders[0])):
        versioned.rollback("a", 1)
    folders[0].rmdir()
    assert versioned.register("a", away).key == "a@1", "the same content, found again elsewhere"
    assert versioned.rollback("a", 1).current


def test_two_hubs_share_a_file_and_see_each_others_changes(open_hub, folders, alone, ids, tmp_path):
    path = tmp_path / "r.sqlite3"
    one, other = open_hub(registry=path), open_hub(registry=path)
    one.load_adapter(folders[0], "a")
    assert torch.equal(_logits(other, ids, "a"), alone[0])
    other.register("a", folders[1])
    assert torch.equal(_logits(one, ids, "a"), alone[1])
    other.rollback("a")
    assert torch.equal(_logits(one, ids, "a"), alone[0])
    other.remove("a")
    with pytest.raises(NotRegistered):
        one.generate("x", adapter="a")
    assert set(one.memory().adapters) == {"a@1", "a@2"}
    other.register("a", folders[2])
    assert torch.equal(_logits(one, ids, "a"), alone[2]), "the old content never stands for the new name"
    one.unload("a")
    assert one.memory().adapters == {}


def test_the_steps_in_the_docs_do_what_they_say(hub, folders, tmp_path, monkeypatch):
    (steps,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for folder, name in ((folders[0], "sql-may"), (folders[2], "sql-june")):
        folder.rename(name)
    exec(steps, {"hub": hub, "prompt": "x"})
    assert [(info.key, info.current, info.aliases) for info in hub.versions("sql")] == [("sql@1", True, ())]
    assert hub.info("sql").uses == 2


def test_a_registry_that_fails_harms_no_request_in_flight(open_hub, folders, alone, ids, tmp_path):
    hub = open_hub(registry=tmp_path / "r.sqlite3")
    hub.load_adapter(folders[0], "a")
    hub.set_adapter("a")
    hub._residents.registry.close()
    assert torch.equal(_default_logits(hub, ids), alone[0])


def test_versions_change_under_traffic_and_no_answer_is_of_another(hub, folders, alone, ids):
    """Readers name a version and get that one, while another thread moves the name and its alias about."""
    hub.register("a", folders[2])
    hub.alias("a", "x", 1)
    expected = {"a@1": [alone[0]], "a@2": [alone[2]], "a": [alone[0], alone[2]], "a:x": [alone[0], alone[2]]}
    done, failures = threading.Event(), []

    def read(ref):
        while not done.is_set():
            logits = _logits(hub, ids, ref)
            if not any(torch.equal(logits, known) for known in expected[ref]):
                failures.append(ref)

    threads = [threading.Thread(target=read, args=(ref,)) for ref in expected]
    for thread in threads:
        thread.start()
    for k in range(60):
        hub.rollback("a", 1 + k % 2)
        hub.alias("a", "x", 2 - k % 2)
        if k % 5 == 0:
            try:
                hub.unload(f"a@{1 + k % 2}")
            except AdapterInUse:
                continue
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
