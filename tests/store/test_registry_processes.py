"""Several processes at one registry: they write at once, one is killed at any moment, none waits for a reader."""

from __future__ import annotations

import copy
import pickle
import random
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapter_hub.errors import RegistryError
from adapter_hub.store import Registry, database

from ..until import until
from .model import INFO, Model, view
from .writer import SHARED, replay

ROOT = Path(__file__).parents[2]


def _start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.store.writer", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _hold_whole(path: Path) -> None:
    """What must be true of the file by itself, whoever wrote it."""
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    stray = (
        "SELECT {0} FROM {1} x WHERE NOT EXISTS (SELECT 1 FROM versions v WHERE v.name = x.name AND v.version = x.{0})"
    )
    assert db.execute(stray.format("current", "names")).fetchall() == [], "each name has its current version"
    assert db.execute(stray.format("version", "aliases")).fetchall() == [], "each alias stands for a version"
    assert db.execute("SELECT name FROM versions EXCEPT SELECT name FROM names").fetchall() == []
    db.close()


def test_killed_at_any_moment_it_opens_again_whole_with_all_that_was_told_done(tmp_path):
    path, start = tmp_path / "r.sqlite3", tmp_path / "start"
    rng, model, seen = random.Random(7), Model(), 0
    for k in range(12):
        seed = f"seed {k}"
        start.write_bytes(pickle.dumps(model))
        writer = _start("steps", path, seed, start)
        assert writer.stdout is not None
        with writer:
            told = [writer.stdout.readline() for _ in range(rng.randrange(1, 60))]
            time.sleep(rng.random() / 500)
            writer.kill()
            told += writer.stdout.readlines()
        done = int(told[-1])
        before = copy.deepcopy(model)
        replay(model, seed, done)
        if not _is_at(path, model):  # the step that was under way may be done, if nobody was told
            model = before
            replay(model, seed, done + 1)
        assert _is_at(path, model)
        assert _seen(path) == model.view()
        _hold_whole(path)
        seen += done
    assert seen > 100


def test_several_processes_write_at_once_and_a_reader_sees_each_whole(tmp_path):
    path, writers, count = tmp_path / "r.sqlite3", 4, 40
    registry = Registry(path)
    running = [_start("adds", path, f"w{k}", count) for k in range(writers)]
    listings = 0
    while any(process.poll() is None for process in running):
        infos = registry.list(all_versions=True)
        names = {info.name for info in infos}
        assert sorted(info.name for info in infos if info.current) == sorted(names)
        assert len({info.key for info in infos}) == len(infos)
        listings += 1
    assert [process.communicate()[0] or process.returncode for process in running] == [0] * writers
    assert listings > 10
    for name in SHARED:
        versions = registry.versions(name)
        assert [info.version for info in versions] == list(range(1, writers * count // len(SHARED) + 1))
        assert sum(info.uses for info in versions) == len(versions)
        for k in range(writers):
            aliased = registry.get(f"{name}:w{k}")
            assert aliased.digest == [info.digest for info in versions if info.digest.startswith(f"w{k}-")][-1]
    registry.close()
    _hold_whole(path)


def test_what_another_process_changes_is_seen_at_the_next_call(tmp_path):
    registry = Registry(tmp_path / "r.sqlite3")
    registry.add(replace(INFO, name="n0"))
    (before,) = registry.resolve(["n0"])
    assert _start("adds", tmp_path / "r.sqlite3", "other", 1).communicate()[0] == ""
    (after,) = registry.resolve(["n0"])
    assert (before.key, after.key, after.digest) == ("n0@1", "n0@2", "other-0")
    registry.close()


def test_nobody_who_reads_or_uses_waits_for_whoever_writes(tmp_path, monkeypatch):
    path = tmp_path / "r.sqlite3"
    registry = Registry(path, flush_seconds=0.01)
    info = registry.add(INFO)
    monkeypatch.setattr(database, "BUSY_SECONDS", 0)
    hasty = Registry(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    other.execute("UPDATE versions SET digest = 'not yet'")
    registry.count_uses([info.key])
    until(lambda: _writer_waits(registry))  # the thread that writes uses down
    for _ in range(50):
        assert registry.resolve(["a"]) == [info]
        assert [found.digest for found in registry.list()] == ["d1"]
        registry.count_uses([info.key])
    assert registry.get("a").uses == 51
    assert _writer_waits(registry), "it waits still, and nobody else did"
    with pytest.raises(RegistryError, match=r"database is locked.*nothing was changed"):
        hasty.alias("a", "stable")
    hasty.count_uses([info.key])
    hasty._usage.flush()
    assert hasty.get("a").uses == 1
    other.execute("ROLLBACK")
    other.close()
    registry.close()
    assert hasty.alias("a", "stable").aliases == ("stable",)
    hasty.close()
    again = Registry(path)
    assert again.get("a").uses == 52, "uses that could not be written are written later"
    again.close()


def _writer_waits(registry: Registry) -> bool:
    lock = registry._database._writing
    if lock.acquire(blocking=False):
        lock.release()
        return False
    return True


def test_new_files_are_opened_by_many_at_once(tmp_path):
    barrier, failures = threading.Barrier(6), []

    def open_and_add(k: int) -> None:
        try:
            for turn in range(5):
                barrier.wait()
                registry = Registry(tmp_path / f"{turn}.sqlite3")
                registry.add(replace(INFO, digest=f"d{k}"))
                registry.close()
        except Exception as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=open_and_add, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for turn in range(5):
        registry = Registry(tmp_path / f"{turn}.sqlite3")
        assert len(registry.versions("a")) == 6
        registry.close()


def _is_at(path: Path, model: Model) -> bool:
    """Whether the file is what the model is, in what cannot be seen too: steps that look the same may lead apart."""
    Registry(path).close()
    db = sqlite3.connect(path)
    tables = ("names", "name, current, pinned"), ("aliases", "name, alias, version"), ("numbers", "name, highest")
    found = [set(db.execute(f"SELECT {columns} FROM {table}")) for table, columns in tables]
    found.append(set(db.execute("SELECT name, version, digest, pinned FROM versions")))
    found.append(set(db.execute("SELECT name, version, tag FROM tags")))
    db.close()
    return found == [set(table) for table in model.tables()]


def _seen(path: Path) -> dict[str, Any]:
    registry = Registry(path)
    found = view(registry)
    registry.close()
    return found
