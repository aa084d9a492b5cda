"""What the registry costs stays flat as it grows."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from adapter_hub.store import Registry

from .model import INFO, fill


class _Steps:
    """Counts what SQLite's machine does: the same from run to run, whatever else the computer does."""

    def __init__(self, registry: Registry) -> None:
        self._count = 0
        registry._database._reader.set_progress_handler(self._tick, 1)

    def _tick(self) -> int:
        self._count += 1
        return 0

    def of(self, call) -> int:
        before = self._count
        call()
        return self._count - before


def test_ten_thousand_adapters_cost_what_a_hundred_do():
    costs = []
    for count in (100, 10_000):
        registry = Registry()
        for k in range(count):
            tags = ("all", "rare") if k >= count - 3 else ("all",)
            registry.add(replace(INFO, name=f"n{k:05}", digest=str(k), tags=tags))
        for k in range(count // 10):
            registry.add(replace(INFO, name="n00050", digest=f"more {k}"))
        steps = _Steps(registry)
        calls = {
            "look up": lambda r=registry: r.resolve(["n00031", "n00050@7"]),
            "look up again": lambda r=registry: r.resolve(["n00031", "n00050@7"]),
            "page": lambda r=registry: r.list(after="n00040", limit=10),
            "page of all": lambda r=registry: r.list(after="n00050@3", limit=10, all_versions=True),
            "page by tag": lambda r=registry: r.list("all", after="n00040", limit=10),
            "page by a rare tag": lambda r=registry: r.list("rare", limit=10),
            "versions": lambda r=registry: r.versions("n00051"),
        }
        costs.append({name: steps.of(call) for name, call in calls.items()})
        registry.close()
    few, many = costs
    assert few.keys() == many.keys()
    assert {name: (few[name], many[name]) for name in few if abs(many[name] - few[name]) > few[name] * 0.02} == {}
    assert many["look up again"] == 0, "until something changes, nobody asks SQLite again"


def test_opening_a_large_file_costs_what_a_small_one_does(tmp_path, monkeypatch):
    connect, ticks = sqlite3.connect, []

    def counting(*arguments, **options):
        db = connect(*arguments, **options)
        db.set_progress_handler(lambda: ticks.append(1), 1)
        return db

    costs = []
    for count in (10, 1000):
        path = tmp_path / f"{count}.sqlite3"
        fill(path, count)
        monkeypatch.setattr(sqlite3, "connect", counting)
        ticks.clear()
        registry = Registry(path)
        costs.append(len(ticks))
        registry.close()
        monkeypatch.setattr(sqlite3, "connect", connect)
    assert 0 < costs[0] == costs[1]
