"""The registry's file with 10 to 100,000 adapters: start-up, lookups, pages, and what others' writes cost readers.

    python -m benchmarks.registry

Claims: none of these grows with the adapters that are registered, apart from a list of them all; a lookup, which
every request makes, takes some microseconds; and it does not wait for another process that writes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from adapter_hub.store import AdapterInfo, Registry

from .reporting import median_seconds, write

SIZES = (10, 100, 1_000, 10_000, 100_000)
INFO = AdapterInfo(
    name="",
    digest="",
    source="org/adapter",
    revision="0" * 40,
    folder="/models/adapter",
    format="peft",
    variant="low rank",
    sites=210,
    ranks=(16,),
    bytes=19_590_384,
    base_name="org/base",
    base_fingerprint="f" * 16,
    tags=("all",),
    warnings=(),
    registered_at="2026-01-01T00:00:00+00:00",
)
WRITER = """
import sys, time
from benchmarks.registry import INFO
from adapter_hub.store import Registry
from dataclasses import replace
registry, until, k = Registry(sys.argv[1]), time.time() + float(sys.argv[2]), 0
while time.time() < until:
    k += 1
    registry.add(replace(INFO, name=f"w{k % 100}", digest=f"by the writer {k}"))
registry.close()
print(k)
"""


def fill(path: Path, count: int) -> None:
    """Register so many adapters, without waiting for the disk."""
    registry = Registry(path)
    registry._database._writer.execute("PRAGMA synchronous = OFF")
    for k in range(count):
        registry.add(replace(INFO, name=f"n{k:06}", digest=f"{k:064}", tags=("all", f"t{k % 10}")))
    registry.close()


def check(registry: Registry, count: int) -> None:
    """What is timed must be right."""
    (info, base, by_version) = registry.resolve([f"n{count - 1:06}", None, f"n{count // 2:06}@1"])
    assert info is not None
    assert by_version is not None
    assert (info.digest, base, by_version.digest) == (f"{count - 1:064}", None, f"{count // 2:064}")
    page = registry.list("all", after=f"n{count // 2:06}", limit=100)
    assert [info.name for info in page] == [f"n{k:06}" for k in range(count // 2 + 1, min(count, count // 2 + 101))]


def time_one(path: Path, count: int) -> dict[str, float]:
    """Median times of one size, in microseconds unless the name says otherwise."""
    middle, batch = f"n{count // 2:06}", [f"n{k % count:06}" for k in range(32)]
    start = median_seconds(lambda: Registry(path).close(), 30)
    registry = Registry(path)
    check(registry, count)

    def forget() -> None:
        registry._stamp = -1  # as when anybody has committed

    infos = registry.resolve([f"n{k:06}" for k in range(min(count, 1000))])
    keys = [info.key for info in infos if info is not None]
    figures = {
        "start_up": 1e6 * start,
        "lookup": 1e6 * median_seconds(lambda: registry.resolve([middle]), 5000),
        "lookup_of_32_rows": 1e6 * median_seconds(lambda: registry.resolve(batch), 2000),
        "lookup_after_a_commit": 1e6 * median_seconds(lambda: registry.resolve([middle]), 2000, forget),
        "page_of_100_ms": 1e3 * median_seconds(lambda: registry.list(after=middle, limit=100), 50),
        "page_of_100_by_tag_ms": 1e3 * median_seconds(lambda: registry.list("all", after=middle, limit=100), 50),
        "whole_list_ms": 1e3 * median_seconds(registry.list, 3),
        "count_a_use": 1e6 * median_seconds(lambda: registry.count_uses(keys[:1]), 2000),
        "write_uses_of_up_to_1000_ms": 1e3
        * median_seconds(registry._usage.flush, 5, lambda: registry.count_uses(keys)),
        "register_ms": 1e3
        * median_seconds(lambda: registry.add(replace(INFO, name="n0", digest=str(time.time()))), 30),
    }
    registry.close()
    return figures


def time_beside_a_writer(path: Path, seconds: float) -> dict[str, float]:
    """Lookups while another process commits as fast as it can, none of them remembered for longer than that."""
    registry = Registry(path)
    command = [sys.executable, "-c", WRITER, str(path), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        times = []
        while writer.poll() is None:
            begun = time.perf_counter()
            registry.resolve(["n000005"])
            times.append(time.perf_counter() - begun)
            time.sleep(0.0005)
        assert writer.stdout is not None
        commits = int(writer.stdout.read())
    registry.close()
    return {
        "commits_a_second": commits / seconds,
        "lookup_median": 1e6 * median(times),
        "lookup_p99": 1e6 * quantiles(times, n=100)[-1],
    }


def main() -> None:
    """Fill, check, time, write."""
    figures: dict[str, Any] = {"unit": "microseconds, or milliseconds where a name ends so", "adapters": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for count in SIZES:
            path = Path(scratch) / f"{count}.sqlite3"
            fill(path, count)
            figures["adapters"][count] = time_one(path, count)
        figures["beside_a_writer"] = time_beside_a_writer(Path(scratch) / "10000.sqlite3", 5)
    write("registry", figures)


if __name__ == "__main__":
    main()
