"""What the registry knows of an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class AdapterInfo:
    """One registered version of an adapter.

    Args:
        name: what requests call it.
        version: its number among the contents of this name, from 1; 0 before it is recorded.
        current: whether the name alone stands for this version.
        aliases: further words that stand for it, as in ``name:alias``.
        pinned: whether it is to stay resident when others have to go.
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
        tags: free words of the user, in alphabetical order.
        warnings: what the proof found odd.
        registered_at: when this version was first registered; ISO 8601, UTC.
        uses: how often a row asked for it or it was made the default. Two entries that differ only in use are equal.
        last_used_at: when that was last; ISO 8601, UTC.
        options: what the user stated of it because its file does not.
        defaults: what a request to a server has where it does not say: ``system_prompt``, fields of ``Sampling``.
        resident: whether its updates lie on the device right now.
    """

    name: str
    version: int = 0
    current: bool = False
    aliases: tuple[str, ...] = ()
    pinned: bool = False
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
    uses: int = field(default=0, compare=False)
    last_used_at: str | None = field(default=None, compare=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    resident: bool = False

    @property
    def key(self) -> str:
        """``name@version``: the reference that means this content and never another."""
        return f"{self.name}@{self.version}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)
