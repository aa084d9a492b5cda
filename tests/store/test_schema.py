"""Files of other versions, of other programs, and damaged ones: nothing is lost of any."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from adapter_hub.errors import RegistryError
from adapter_hub.store import Registry
from adapter_hub.store.schema import APPLICATION_ID

from .model import INFO, fill

# As version 1 of the schema was written.
FIRST = """CREATE TABLE adapters (
    name TEXT PRIMARY KEY, digest TEXT NOT NULL, source TEXT NOT NULL, revision TEXT, folder TEXT NOT NULL,
    format TEXT NOT NULL, variant TEXT NOT NULL, sites INTEGER NOT NULL, ranks TEXT NOT NULL,
    bytes INTEGER NOT NULL, base_name TEXT, base_fingerprint TEXT NOT NULL, tags TEXT NOT NULL,
    warnings TEXT NOT NULL, registered_at TEXT NOT NULL)"""
OLD = [INFO, replace(INFO, name="b", digest="d2", revision=None, base_name=None, tags=(), ranks=())]


def _write_first(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(FIRST)
    columns = [row[1] for row in db.execute("PRAGMA table_info(adapters)")]
    for info in OLD:
        values = [asdict(info)[column] for column in columns]
        values = [json.dumps(value) if isinstance(value, tuple) else value for value in values]
        db.execute(f"INSERT INTO adapters VALUES ({', '.join('?' * len(columns))})", values)
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()


def test_a_file_of_the_first_schema_is_taken_over(tmp_path):
    path = tmp_path / "r.sqlite3"
    _write_first(path)
    for _ in range(2):
        registry = Registry(path)
        assert registry.list() == [replace(info, version=1, current=True) for info in OLD]
        assert [info.name for info in registry.list("y")] == ["a"]
        registry.close()
    registry = Registry(path)
    assert registry.add(replace(INFO, digest="d3")).key == "a@2"
    registry.close()


SECOND = """
CREATE TABLE names (name TEXT PRIMARY KEY, current INTEGER NOT NULL, pinned INTEGER NOT NULL DEFAULT 0,
    FOREIGN KEY (name, current) REFERENCES versions (name, version) DEFERRABLE INITIALLY DEFERRED) WITHOUT ROWID;
CREATE TABLE versions (name TEXT NOT NULL REFERENCES names (name) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    version INTEGER NOT NULL, digest TEXT NOT NULL, source TEXT NOT NULL, revision TEXT, folder TEXT NOT NULL,
    format TEXT NOT NULL, variant TEXT NOT NULL, sites INTEGER NOT NULL, ranks TEXT NOT NULL, bytes INTEGER NOT NULL,
    base_name TEXT, base_fingerprint TEXT NOT NULL, warnings TEXT NOT NULL, options TEXT NOT NULL DEFAULT '{}',
    registered_at TEXT NOT NULL, pinned INTEGER NOT NULL DEFAULT 0, uses INTEGER NOT NULL DEFAULT 0,
    last_used_at TEXT, PRIMARY KEY (name, version), UNIQUE (name, digest));
CREATE TABLE tags (name TEXT NOT NULL, version INTEGER NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (name, version, tag),
    FOREIGN KEY (name, version) REFERENCES versions (name, version) ON DELETE CASCADE) WITHOUT ROWID;
CREATE TABLE aliases (name TEXT NOT NULL REFERENCES names (name) ON DELETE CASCADE, alias TEXT NOT NULL,
    version INTEGER NOT NULL, PRIMARY KEY (name, alias),
    FOREIGN KEY (name, version) REFERENCES versions (name, version) DEFERRABLE INITIALLY DEFERRED) WITHOUT ROWID;
CREATE TABLE numbers (name TEXT PRIMARY KEY, highest INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX tags_by_word ON tags (tag, name, version);
INSERT INTO names VALUES ('a', 2, 1);
INSERT INTO versions VALUES ('a', 1, 'd1', 's', NULL, '/x', 'f', 'v', 1, '[4]', 8, NULL, 'b', '[]', '{"alpha": 8}',
    '2026-01-01T00:00:00+00:00', 0, 5, '2026-01-02T00:00:00+00:00');
INSERT INTO versions VALUES ('a', 2, 'd2', 's', NULL, '/y', 'f', 'v', 1, '[4]', 8, NULL, 'b', '[]', '{}',
    '2026-01-03T00:00:00+00:00', 0, 0, NULL);
INSERT INTO tags VALUES ('a', 2, 'x');
INSERT INTO aliases VALUES ('a', 'stable', 1);
INSERT INTO numbers VALUES ('a', 2);
"""  # as version 2 of the schema was written


def test_a_file_of_the_second_schema_is_taken_over(tmp_path):
    path = tmp_path / "r.sqlite3"
    db = sqlite3.connect(path)
    db.executescript(SECOND)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 2")
    db.close()
    for count in range(2):
        registry = Registry(path)
        first, second = registry.versions("a")
        assert (first.options, first.uses, first.aliases, first.defaults) == ({"alpha": 8}, 5, ("stable",), {})
        assert (second.current, second.pinned, second.tags) == (True, True, ("x",))
        assert len(registry.keys.list()) == count
        registry.keys.create(f"k{count}")
        registry.close()


def test_fresh_and_taken_over_files_have_one_schema(tmp_path):
    def schema(path: Path) -> dict[str, str]:
        Registry(path).close()
        with sqlite3.connect(path) as db:
            tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: sorted(row[1:6] for row in db.execute(f"PRAGMA table_info({name})")) for name in tables}

    _write_first(tmp_path / "first")
    db = sqlite3.connect(tmp_path / "second")
    db.executescript(SECOND)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 2")
    db.close()
    assert schema(tmp_path / "first") == schema(tmp_path / "second") == schema(tmp_path / "fresh")


def test_many_take_a_file_of_the_first_schema_over_at_once(tmp_path):
    path, failures = tmp_path / "r.sqlite3", []
    _write_first(path)
    barrier = threading.Barrier(5)

    def open_one() -> None:
        try:
            barrier.wait()
            registry = Registry(path)
            assert [info.key for info in registry.list()] == ["a@1", "b@1"]
            registry.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_who_opens_a_file_first_waits_for_who_is_about_to(tmp_path):
    other = sqlite3.connect(tmp_path / "r.sqlite3", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # as whoever makes the tables does, before the file is in WAL mode
    done = threading.Timer(0.2, other.close)
    done.start()
    Registry(tmp_path / "r.sqlite3").close()
    done.join()


def test_a_file_of_the_first_schema_that_cannot_be_taken_over_stays_as_it_is(tmp_path):
    path = tmp_path / "r.sqlite3"
    _write_first(path)
    db = sqlite3.connect(path)
    db.execute("UPDATE adapters SET tags = 'no list' WHERE name = 'b'")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(RegistryError, match=r"cannot be opened.*left as it is"):
        Registry(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_left_alone(tmp_path):
    path = tmp_path / "r.sqlite3"
    registry = Registry(path)
    registry.add(INFO)
    registry.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    before = path.read_bytes()
    with pytest.raises(RegistryError, match=r"schema 99, this version knows \d+\. Update"):
        Registry(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("version", [0, 1, 2, 99])
def test_another_programs_database_is_left_alone(tmp_path, version):
    path = tmp_path / "r.sqlite3"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.execute(f"PRAGMA user_version = {version}")
    db.commit()
    db.close()
    before = path.read_bytes()
    with pytest.raises(RegistryError, match="another program's database"):
        Registry(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_and_a_folder_that_cannot_be(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"not a database " * 100)
    with pytest.raises(RegistryError, match=r"text cannot be opened.*left as it is"):
        Registry(path)
    assert path.read_bytes() == b"not a database " * 100
    with pytest.raises(RegistryError, match="cannot be opened"):
        Registry(path / "below" / "r.sqlite3")
    with pytest.raises(RegistryError, match="cannot be opened"):
        Registry(tmp_path)


def test_a_file_that_was_cut_off_is_left_as_it_is(tmp_path):
    path = tmp_path / "r.sqlite3"
    whole = fill(path, 300)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RegistryError, match=r"malformed.*left as it is.*recover"):
        Registry(path)
    assert path.read_bytes() == whole[: len(whole) // 2]


def test_damaged_pages_are_an_error_and_what_lies_elsewhere_is_read(tmp_path):
    path = tmp_path / "r.sqlite3"
    whole = fill(path, 300)
    size = int.from_bytes(whole[16:18], "big")
    begin = whole.index(b"org/number-250-") // size * size
    damaged = whole[:begin] + b"\xee" * size + whole[begin + size :]
    path.write_bytes(damaged)
    registry = Registry(path)
    with pytest.raises(RegistryError, match=r"malformed.*left as it is.*recover"):
        registry.list()
    assert registry.get("n0").digest == "0"
    registry.close()
    assert path.read_bytes() == damaged


def test_rows_that_make_no_sense_are_an_error(tmp_path):
    path = tmp_path / "r.sqlite3"
    fill(path, 2)
    db = sqlite3.connect(path)
    db.execute("UPDATE versions SET ranks = '[4, ' WHERE name = 'n1'")
    db.commit()
    db.close()
    registry = Registry(path)
    with pytest.raises(RegistryError, match=r"left as it is.*recover"):
        registry.resolve(["n1"])
    assert registry.get("n0").ranks == INFO.ranks
    registry.close()


def test_a_registry_that_lacks_a_table_says_so(tmp_path):
    path = tmp_path / "r.sqlite3"
    Registry(path).close()
    db = sqlite3.connect(path)
    db.execute("DROP TABLE aliases")
    db.commit()
    db.close()
    with pytest.raises(RegistryError, match="damaged: it has no table 'aliases'"):
        Registry(path)
