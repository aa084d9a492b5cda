"""What the registry knows of an adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import RequestError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
BASE_NAME = "base"


def check_name(name: str) -> None:
    """Raise ``RequestError`` unless an adapter can be called ``name``."""
    if not NAME.fullmatch(name) or name == BASE_NAME:
        raise RequestError(
            f"{name!r} cannot be the name of an adapter.",
            hint="Use letters, digits, '.', '_' and '-', at most 128 of them; 'base' is the bare model.",
        )


@dataclass(frozen=True)
class AdapterInfo:
    """One registered adapter.

    Args:
        name: what requests call it.
        digest: sha256 of its content; its identity.
        source: the reference it was registered with.
        revision: commit of a Hub repo, as resolved.
        folder: where its files lie on this machine.
        format: container on disk.
        variant: adapter type.
        sites: how many sites of the base it changes.
        ranks: the different ranks among its sites, ascending.
        bytes: size of its tensors on disk.
        base_name: the base it says it was trained on.
        base_fingerprint: the base it was proven against.
        tags: free words of the user.
        warnings: what the proof found odd.
        registered_at: ISO 8601, UTC.
        options: what the user stated of it because its file does not.
        resident: whether its updates lie on the device right now.
    """

    name: str
    digest: str
    source: str
    revision: str | None
    folder: str
    format: str
    variant: str
    sites: int
    ranks: tuple[int, ...]
    bytes: int
    base_name: str | None
    base_fingerprint: str
    tags: tuple[str, ...]
    warnings: tuple[str, ...]
    registered_at: str
    options: Mapping[str, Any] = field(default_factory=dict)
    resident: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)
