"""What the ways to compute a mixed batch have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from ..updates import SiteUpdate
from .composition import Composition

BaseCall = Callable[[Tensor], Tensor]


class Plan(Protocol):
    """How one site computes one composition of rows."""

    def run(self, module: nn.Module, base: BaseCall, x: Tensor) -> Tensor:
        """The site's output, each entry under its own slot's update.

        Args:
            module: the base's module, for updates that need its own forward.
            base: the frozen product, from entries to entries; its result is new and may be written.
            x: [entries, ..., in]; never written.

        Returns:
            [entries, ..., out'], with minus infinity where an entry's own output is narrower than out'.
        """
        ...


class Planner(Protocol):
    """Makes the plans of one site, and keeps what it can use again."""

    def plan(self, composition: Composition, x: Tensor) -> Plan | None:
        """The plan for entries ``x`` of this composition; None where the base alone serves them all."""
        ...

    def prepared(self, slot: int) -> SiteUpdate:
        """What serves a slot that has an update here where rows go group by group: that update, or a faster form."""
        ...

    def changed(self, slot: int, gone: SiteUpdate | None = None) -> None:
        """A slot's update has come or gone. Nothing of one that is gone may be kept."""
        ...


# From the updates of a site, by slot: the planner reads them whenever it plans, under the site's own rules.
MakePlanner = Callable[[Mapping[int, SiteUpdate]], Planner]
