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

    @property
    def by_entry(self) -> bool:
        """Whether ``run`` has to see its input by entries; where not, tokens in order will do."""
        ...

    def run(self, module: nn.Module, base: BaseCall, x: Tensor) -> Tensor:
        """The site's output, each entry under its own slot's update.

        Args:
            module: the base's module, for updates that need its own forward.
            base: the frozen product, of what has the shape of ``x``; its result is new and may be written.
            x: [entries, ..., in], or [..., in] with the batch's tokens in order; never written.

        Returns:
            [entries, ..., out'], with minus infinity where an entry's own output is narrower than out', or [..., out].
        """
        ...


class Planner(Protocol):
    """Makes the plans of one site, and keeps what it can use again."""

    def plan(self, composition: Composition, x: Tensor) -> Plan | None:
        """The plan for tokens ``x`` [..., in] of this composition; None where the base alone serves them all."""
        ...

    def prepared(self, slot: int) -> SiteUpdate:
        """What serves a slot that has an update here where rows go group by group: that update, or a faster form."""
        ...

    def changed(self, slot: int, gone: SiteUpdate | None = None) -> None:
        """A slot's update has come or gone. Nothing of one that is gone may be kept."""
        ...


# From the updates of a site, by slot: the planner reads them whenever it plans, under the site's own rules.
MakePlanner = Callable[[Mapping[int, SiteUpdate]], Planner]
