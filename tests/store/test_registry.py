"""The registry: names, persistence, and files that are not in order."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace

import pytest

from adapter_hub.errors import NameTaken, NotRegistered, RegistryError
from adapter_hub.store import AdapterInfo, Registry

INFO = AdapterInfo(
    name="a",
    digest="d1",
    source="org/a",
    revision="abc",
    folder="/x",
    format="peft",
    variant="v",
    sites=3,
    ranks=(4, 8),
    bytes=1234,
    base_name="org/base",
    base_fingerprint="f",
    tags=("x", "y"),
    warnings=("odd",),
    registered_at="2026-01-01T00:00:00+00:00",
)


def test_what_goes_in_comes_out(tmp_path):
    registry = Registry(tmp_path / "r.sqlite3")
    registry.add(INFO)
    registry.add(replace(INFO, name="b", digest="d2", revision=None, base_name=None, tags=()))
    registry.close()
    again = Registry(tmp_path / "r.sqlite3")
    assert again.get("a") == INFO
    assert [info.name for info in again.list()] == ["a", "b"]
    assert [info.name for info in again.list(tag="y")] == ["a"]
    assert "b" in again
    assert "c" not in again
    again.remove("b")
    with pytest.raises(NotRegistered, match="Registered: a"):
        again.remove("b")


def test_a_name_stands_for_one_content():
    registry = Registry()
    registry.add(INFO)
    later = registry.add(replace(INFO, tags=(), registered_at="2027"))
    assert (later.tags, later.registered_at) == (INFO.tags, INFO.registered_at)
    registry.add(replace(INFO, tags=("z",)))
    assert registry.get("a").tags == ("z",)
    with pytest.raises(NameTaken, match="stands for org/a"):
        registry.add(replace(INFO, digest="d2"))
    assert registry.get("a").digest == "d1"


def test_a_newer_schema_is_left_alone(tmp_path):
    path = tmp_path / "r.sqlite3"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(RegistryError, match="schema 99"):
        Registry(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_registry_and_a_folder_without_rights(tmp_path):
    (tmp_path / "text").write_bytes(b"not a database " * 100)
    with pytest.raises(RegistryError, match="cannot be opened"):
        Registry(tmp_path / "text")
    with pytest.raises(RegistryError, match="cannot be opened"):
        Registry(tmp_path / "text" / "below" / "r.sqlite3")


def test_two_processes_worth_of_connections_and_many_threads(tmp_path):
    first, second = Registry(tmp_path / "r.sqlite3"), Registry(tmp_path / "r.sqlite3")

    def add(registry, start):
        for k in range(start, start + 20):
            registry.add(replace(INFO, name=f"n{k}", digest=str(k)))

    threads = [threading.Thread(target=add, args=(r, s)) for r, s in ((first, 0), (second, 20), (first, 40))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(first.list()) == len(second.list()) == 60


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "r.sqlite3"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(RegistryError, match="another program's database"):
        Registry(path)


def test_a_failing_disk_is_an_error_of_the_tree(tmp_path):
    registry = Registry(tmp_path / "r.sqlite3")
    registry.add(INFO)
    registry.close()
    with pytest.raises(RegistryError, match="failed"):
        registry.get("a")
