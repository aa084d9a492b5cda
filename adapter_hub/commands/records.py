"""An adapter's entry as commands write it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..store import AdapterInfo


def record(info: AdapterInfo) -> dict[str, Any]:
    """What lasts of an adapter's entry: residency ends with the process."""
    return {key: value for key, value in info.as_dict().items() if key != "resident"}


def ranks(info: AdapterInfo) -> str:
    """``rank 8``, ``rank 4,8`` or ``no rank``."""
    return f"rank {numbers(info.ranks)}" if any(info.ranks) else "no rank"


def numbers(of: tuple[int, ...]) -> str:
    """The ranks that there are; of many, the first and the last."""
    shown = [rank for rank in of if rank]
    return f"{shown[0]}..{shown[-1]}" if len(shown) > 3 else ",".join(map(str, shown))


def defaults(info: AdapterInfo) -> list[str]:
    """What requests have where they do not say, one a line."""
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in info.defaults.items()]
