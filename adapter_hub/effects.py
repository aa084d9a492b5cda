"""What an adapter does to the base, site by site: how large its change is beside what it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from .base import BaseModel
from .errors import AdapterHubError
from .updates import SiteUpdate, base_norm, change_norm


@dataclass(frozen=True)
class SiteEffect:
    """How much an adapter changes one site.

    Args:
        path: the site.
        change: Frobenius norm of the change of the site's parameters, weight and bias together; None where it is none.
        base: Frobenius norm of the base's own, a 4-bit weight as what it stands for.
        reason: why ``change`` is None.
    """

    path: str
    change: float | None
    base: float
    reason: str = ""

    @property
    def share(self) -> float | None:
        """``change / base``; None where either is not known."""
        return self.change / self.base if self.change is not None and self.base else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "share": self.share}


def effects(updates: Mapping[str, SiteUpdate], base: BaseModel) -> tuple[SiteEffect, ...]:
    """The effect of each update, in the order of the base's sites. The base is read, never written."""
    with torch.inference_mode(False), torch.no_grad():
        return tuple(_effect(path, updates[path], base) for path in base.sites if path in updates)


def _effect(path: str, update: SiteUpdate, base: BaseModel) -> SiteEffect:
    own = 0.0
    try:
        own = base_norm(path, base)
        return SiteEffect(path, change_norm(path, update, base), own)
    except AdapterHubError as error:
        return SiteEffect(path, None, own, error.message)
