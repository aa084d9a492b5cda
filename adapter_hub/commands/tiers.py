"""Where adapters lie in the hubs that are running, as text."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from .tables import duration, size, table

HEADS = ("TIER", "ADAPTERS", "USED", "LIMIT", "HITS", "MISSES", "LOADS", "TOOK", "EVICTIONS", "TOOK")


def where(hubs: Sequence[Mapping[str, Any]], digest: str) -> str:
    """The tiers in which each hub has an adapter, by its digest; ``disk`` where none has it."""
    found = []
    for hub in hubs:
        names = ", ".join(tier["name"] for tier in hub["tiers"] if digest in tier["adapters"])
        if names:
            found.append(names if len(hubs) == 1 else f"{names} in {hub['pid']}")
    return "; ".join(found) or "disk"


def tiers_of(hub: Mapping[str, Any]) -> str:
    """A hub's tiers with what has come and gone there, times as means."""
    rows = [
        (
            tier["name"],
            str(tier["entries"]),
            size(tier["used"]),
            "" if tier["limit"] is None else size(tier["limit"]),
            str(tier["hits"]),
            str(tier["misses"]),
            str(tier["loads"]),
            duration(tier["load_seconds"] / tier["loads"]) if tier["loads"] else "",
            str(tier["evictions"]),
            duration(tier["eviction_seconds"] / tier["evictions"]) if tier["evictions"] else "",
        )
        for tier in hub["tiers"]
    ]
    age = duration(max(0.0, time.time() - hub["at"]))
    return f"process {hub['pid']} on {hub['base']}, {age} ago\n" + table(HEADS, rows, right=HEADS[1:])
