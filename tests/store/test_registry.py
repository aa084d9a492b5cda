"""The registry: what each step promises, persistence and errors."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from adapter_hub.errors import AdapterInUse, NotRegistered, RegistryError, RequestError
from adapter_hub.store import Registry

from .model import INFO


@pytest.fixture
def registry():
    registry = Registry()
    yield registry
    registry.close()


@pytest.fixture
def three(registry):
    """Versions 1 to 3 of the name "a", the digests d1 to d3."""
    for k in (1, 2, 3):
        registry.add(replace(INFO, digest=f"d{k}"))
    return registry


def test_what_goes_in_comes_out(tmp_path):
    registry = Registry(tmp_path / "deep" / "r.sqlite3")
    recorded = registry.add(INFO)
    assert recorded == replace(INFO, version=1, current=True)
    registry.add(replace(INFO, name="b", digest="d2", revision=None, base_name=None, tags=()), pin=True)
    registry.alias("b", "stable")
    registry.close()
    again = Registry(tmp_path / "deep" / "r.sqlite3")
    assert again.get("a") == recorded
    assert (again.get("b:stable").key, again.get("b").pinned, again.get("b").aliases) == ("b@1", True, ("stable",))
    assert [info.name for info in again.list()] == ["a", "b"]
    assert [info.name for info in again.list(tag="y")] == ["a"]
    again.remove("b")
    with pytest.raises(NotRegistered, match="Registered: a"):
        again.remove("b")
    again.close()


def test_other_content_is_the_next_version_and_the_same_content_the_same(registry):
    registry.add(INFO)
    second = registry.add(replace(INFO, digest="d2", tags=(), folder="/y"))
    assert (second.key, second.current, second.tags) == ("a@2", True, INFO.tags)
    first = registry.add(replace(INFO, tags=("z",), folder="/moved", registered_at="2027"))
    assert (first.key, first.current, first.folder, first.tags) == ("a@1", False, "/moved", ("z",))
    assert first.registered_at == INFO.registered_at
    assert [info.key for info in registry.versions("a")] == ["a@1", "a@2"]
    assert registry.get("a") == second


def test_rollback_and_what_comes_after_it(three):
    assert three.previous("a").key == "a@2"
    assert three.rollback("a", 1).current
    assert three.get("a").digest == "d1"
    with pytest.raises(RequestError, match=r"no version of adapter 'a' comes before a@1.*a@1, a@2, a@3"):
        three.previous("a")
    assert three.rollback("a", 3).key == "a@3"
    three.rollback("a", 2)
    assert three.add(replace(INFO, digest="d3")).current is False, "known content changes nothing"
    assert three.add(replace(INFO, digest="d4")).current, "new content is current"
    assert three.get("a").key == "a@4"


def test_aliases_move_and_hold_their_version(three):
    assert three.alias("a", "stable", 1).aliases == ("stable",)
    assert three.alias("a", "canary").key == "a@3"
    with pytest.raises(AdapterInUse, match=r"a@1 is what a:stable stands for.*take it away"):
        three.remove("a@1")
    assert three.alias("a", "stable", 2).key == "a@2"
    assert three.get("a@1").aliases == ()
    three.remove("a@1")
    assert three.unalias("a", "stable").key == "a@2"
    with pytest.raises(NotRegistered, match=r"no alias 'stable'.*Aliases: a:canary; 'a' alone is a@3"):
        three.get("a:stable")
    with pytest.raises(RequestError, match=r"an alias.*a@1.*unalias"):
        three.remove("a:canary")
    with pytest.raises(RequestError, match="cannot be an alias"):
        three.alias("a", "2")


def test_a_names_pin_moves_with_its_current_version_and_a_versions_does_not(three):
    assert three.pin("a").key == "a@3"
    three.rollback("a", 2)
    assert [info.pinned for info in three.versions("a")] == [False, True, False]
    three.pin("a@1")
    assert three.unpin("a@2").pinned, "it is pinned by its name"
    three.unpin("a")
    assert [info.pinned for info in three.versions("a")] == [False, False, False]
    assert three.add(replace(INFO, digest="d2"), pin=True).pinned
    assert three.add(replace(INFO, digest="d2")).pinned


def test_removing_versions_and_the_name(three):
    assert [info.key for info in three.remove("a@3")] == ["a@3"]
    assert three.get("a").key == "a@2"
    three.rollback("a", 1)
    three.remove("a@1")
    assert three.get("a").key == "a@2"
    assert three.add(replace(INFO, digest="d1")).key == "a@4", "a number is not given twice"
    three.alias("a", "stable")
    assert [info.key for info in three.remove("a")] == ["a@2", "a@4"]
    assert three.list() == []
    assert three.add(INFO).key == "a@5", "nor after the name went"
    three.remove("a@5")
    assert three.list(all_versions=True) == []


def test_what_else_goes_with_a_removal_decides_whether_it_happens(three):
    seen = []

    def refuse():
        with three.removing("a") as gone:
            seen.extend(info.key for info in gone)
            raise AdapterInUse("not now.")

    with pytest.raises(AdapterInUse):
        refuse()
    assert seen == ["a@1", "a@2", "a@3"]
    assert len(three.versions("a")) == 3


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda r: r.get("x"), "no adapter is registered as 'x'. Registered: a."),
        (lambda r: r.get("a@9"), "no version 9. There are a@3, a@2, a@1; 'a' alone is a@3."),
        (lambda r: r.get("a:s"), "no alias 's'. Aliases: none; 'a' alone is a@3."),
        (lambda r: r.resolve(["a", "a@x"]), "'a@x' names no adapter. After '@' comes a version"),
        (lambda r: r.resolve([["a"]]), "names no adapter"),
        (lambda r: r.versions("x"), "no adapter is registered as 'x'"),
        (lambda r: r.rollback("a", 9), "no version 9"),
        (lambda r: r.rollback("a", 10**30), "names no adapter"),
        (lambda r: r.rollback("a", -1), "names no adapter"),
        (lambda r: r.rollback("x", 1), "'x'"),
        (lambda r: r.previous("x"), "'x'"),
        (lambda r: r.alias("a", "s", 9), "no version 9"),
        (lambda r: r.alias("x", "s"), "'x'"),
        (lambda r: r.unalias("a", "s"), "no alias 's'"),
        (lambda r: r.unalias("a", "no alias"), "names no adapter"),
        (lambda r: r.pin("a@9"), "no version 9"),
        (lambda r: r.unpin("x"), "'x'"),
        (lambda r: r.remove("a@9"), "no version 9"),
        (lambda r: r.list(after="a b"), "names no adapter"),
    ],
)
def test_what_there_is_not_is_told_with_what_there_is(three, call, said):
    before = three.list(all_versions=True)
    with pytest.raises(NotRegistered) as caught:
        call(three)
    assert said in str(caught.value)
    assert three.list(all_versions=True) == before


def test_the_first_few_names_are_enough(registry):
    for k in range(9):
        registry.add(replace(INFO, name=f"n{k}", digest=str(k)))
    with pytest.raises(NotRegistered, match=r"Registered: n0, n1, n2, n3, n4 and more\.$"):
        registry.get("x")


def test_names_tags_and_pages_that_cannot_be(registry):
    for info in (replace(INFO, name="a@2"), replace(INFO, tags=("",))):
        with pytest.raises(RequestError, match="cannot be"):
            registry.add(info)
    with pytest.raises(RequestError, match="a page of 0"):
        registry.list(limit=0)
    with pytest.raises(RequestError, match="'a:b' is one version"):
        registry.rollback("a:b", 1)
    assert registry.list() == []


def test_a_text_may_name_what_is_registered_or_something_else(three):
    assert all(map(three.knows, ("a", "a@1", "a@99", "a:none")))
    assert not any(map(three.knows, ("b", "org/a", "./a", "", "base", "a@b")))


def test_uses_are_seen_at_once_and_last(tmp_path):
    registry, reader = Registry(tmp_path / "r.sqlite3"), Registry(tmp_path / "r.sqlite3")
    first = registry.add(INFO)
    second = registry.add(replace(INFO, digest="d2"))
    assert (first.uses, first.last_used_at) == (0, None)
    registry.count_uses([first.key, None, second.key, first.key])
    assert [info.uses for info in registry.versions("a")] == [2, 1]
    assert [info.uses for info in registry.list()] == [1]
    assert reader.get("a@1").uses == 0
    registry.close()
    used = reader.get("a@1")
    assert (used.uses, used == replace(first, current=False)) == (2, True), "use makes no other adapter of it"
    assert used.last_used_at >= used.registered_at[:4]
    reader.count_uses([used.key])
    assert reader.get("a@1").uses == 3
    reader.close()


def test_two_processes_worth_of_connections_and_many_threads(tmp_path):
    first, second = Registry(tmp_path / "r.sqlite3"), Registry(tmp_path / "r.sqlite3")

    def add(registry, start):
        for k in range(start, start + 20):
            registry.add(replace(INFO, name=f"n{k % 7}", digest=str(k)))
            assert registry.resolve([f"n{k % 7}"])[0].name == f"n{k % 7}"

    threads = [threading.Thread(target=add, args=(r, s)) for r, s in ((first, 0), (second, 20), (first, 40))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert first.list(all_versions=True) == second.list(all_versions=True)
    assert {info.digest for info in first.list(all_versions=True)} == {str(k) for k in range(60)}
    first.close()
    second.close()


def test_a_closed_registry_says_so(tmp_path):
    for path in (tmp_path / "r.sqlite3", None):
        registry = Registry(path)
        registry.add(INFO)
        registry.resolve(["a"])
        registry.close()
        registry.close()
        for call in (lambda r: r.get("a"), lambda r: r.resolve(["a"]), lambda r: r.add(INFO)):
            with pytest.raises(RegistryError, match="failed"):
                call(registry)


def test_a_full_disk_loses_nothing(tmp_path):
    registry = Registry(tmp_path / "r.sqlite3")
    registry.add(INFO)
    db = registry._database._writer
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(RegistryError, match=r"full.*Nothing of this step was kept. Make room"):
        registry.add(replace(INFO, digest="d2", warnings=("long" * 10000,)))
    assert [info.key for info in registry.versions("a")] == ["a@1"]
    db.execute("PRAGMA max_page_count = 100000")
    assert registry.add(replace(INFO, digest="d2")).key == "a@2"
    registry.close()


def test_defaults_go_over_to_the_next_version_unless_it_brings_its_own():
    registry = Registry()
    registry.add(INFO)
    changed = registry.set_defaults("a", {"temperature": 0.5, "logit_bias": {3: 1.0}, "system_prompt": "Be brief."})
    assert registry.get("a") == changed
    assert registry.set_defaults("a", {"temperature": None}).defaults == {
        "logit_bias": {3: 1.0},
        "system_prompt": "Be brief.",
    }
    second = registry.add(replace(INFO, digest="d2"))
    assert second.defaults == registry.get("a@1").defaults
    assert registry.add(replace(INFO, digest="d3", defaults={"top_p": 0.5})).defaults == {"top_p": 0.5}
    assert registry.add(INFO).defaults == second.defaults  # content that is known keeps its own
    with pytest.raises(NotRegistered):
        registry.set_defaults("c", {})
    registry.close()
