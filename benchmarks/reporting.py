"""What every benchmark writes: its figures, the machine, the versions and the command that made them."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "bitsandbytes", "peft", "safetensors")


def median_seconds(run: Callable[[], Any], repeats: int, prepare: Callable[[], Any] | None = None) -> float:
    """Median wall time of ``run``, each time after ``prepare``, which is not counted."""
    times = []
    for _ in range(repeats):
        if prepare is not None:
            prepare()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def write(name: str, figures: dict[str, Any]) -> Path:
    """Write ``results/NAME.json`` and print it."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    report = {
        "command": " ".join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "machine": {"device": device, "threads": torch.get_num_threads(), "cores": os.cpu_count()},
        "versions": {package: version(package) for package in PACKAGES},
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return path


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
