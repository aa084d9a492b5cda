"""What a way to merge adapters is given and gives back, for plugins that bring one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Generator

    from .base import BaseModel
    from .updates import SiteUpdate


@dataclass(frozen=True)
class Contribution:
    """What one parent of a composition does at a site.

    Args:
        adapter: the parent, as it was named.
        weight: its weight in the composition, not zero.
        update: what it does alone.
        scale: the constant that was folded into its low-rank product; None where its type has none.
    """

    adapter: str
    weight: float
    update: SiteUpdate
    scale: float | None = None


@dataclass(frozen=True)
class SiteToMerge:
    """One site of a composition.

    Args:
        path: where it is.
        parents: those that change it, in the order in which they were named; at least one.
        base: the base, for methods that need its weights.
        generator: for methods that draw; seeded by the composition's seed and the path alone.
        largest_rank: of all parents at all sites; 0 where none has a rank.
    """

    path: str
    parents: tuple[Contribution, ...]
    base: BaseModel
    generator: Generator
    largest_rank: int


@dataclass(frozen=True)
class Merged:
    """What a composition does at a site; Frobenius norms of the change of W that was wanted and of what is lost of it.

    A method that loses nothing leaves the norms at 0.
    """

    update: SiteUpdate
    change: float = 0.0
    error: float = 0.0


class MergeMethod(Protocol):
    """A way to make one adapter of several.

    ``options`` names what it takes beside weights and seed, and says what each means.
    """

    name: str
    help: str
    options: Mapping[str, str]

    def bind(self, options: Mapping[str, Any]) -> Callable[[SiteToMerge], Merged]:
        """What merges a site under these options, all of them among ``self.options``.

        Called before any adapter is loaded. Raises a ``RequestError`` for a value that cannot be; what it returns
        raises an ``AdapterError``, naming site and adapter, for a form of update that it would merge wrongly.
        """
        ...
