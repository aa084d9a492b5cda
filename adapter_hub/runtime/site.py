"""The adapted site: one wrapper around any module, whatever its weights are stored as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..ops import MakePlanner, ReferencePlanner
from ..updates import SiteUpdate, takes_place
from .apart import run_apart
from .rowmap import RowMap


class AdaptedSite:
    """Stands in for a module's ``forward`` while any resident adapter changes it.

    The module itself stays where it is, with its name, weights and hooks. It is only ever called, never
    looked into, so any quantiser's linear will do.

    Args:
        module: the base's module.
        rows: gives the row map in force.
        make_planner: how batches are computed whose rows use different slots.
    """

    def __init__(
        self, module: nn.Module, rows: Callable[[], RowMap], make_planner: MakePlanner = ReferencePlanner
    ) -> None:
        self.module = module
        self.base = module.forward
        self.updates: dict[int, SiteUpdate] = {}
        self._whole: set[int] = set()
        self._rows = rows
        self._planner = make_planner(self.updates)

    def attach(self) -> None:
        """Take the module's calls."""
        # Past nn.Module's own __setattr__, which looks for parameters and takes longer than the rest of a swap.
        self.module.__dict__["forward"] = self

    def detach(self) -> None:
        """Give the module its own forward back."""
        # An instance attribute hid the class's method; where another library had put one first, it returns.
        del self.module.__dict__["forward"]
        if self.module.forward != self.base:
            self.module.forward = self.base

    def install(self, slot: int, update: SiteUpdate) -> None:
        """Write the update of a slot that no row uses yet."""
        self.updates[slot] = update
        if takes_place(update):
            self._whole.add(slot)
        self._planner.changed(slot)

    def clear(self, slot: int) -> None:
        """Empty a slot that no row uses any more."""
        gone = self.updates.pop(slot, None)
        self._whole.discard(slot)
        if gone is not None:
            self._planner.changed(slot, gone)

    def __call__(self, x: Tensor, *others: Any) -> Any:
        """The site's output for ``x [rows, ..., in]``: each row under its own slot's update.

        Args:
            x: the module's first input.
            others: further ones, of modules that have such; those that lead with the same rows go with them.
        """
        rows = self._rows()
        if rows.everywhere is None:
            if self.updates.keys().isdisjoint(rows.slots):
                return self.base(x, *others)
            if others or not self._whole.isdisjoint(rows.slots):
                return run_apart(self.base, self.module, self.updates, rows, (x, *others))
            return self._mixed(x, rows)
        update = self.updates.get(rows.everywhere)
        if update is None:
            return self.base(x, *others)
        if takes_place(update):
            return update.forward(self.module, x, *others)
        return update.output(self.module, x, self.base(update.base_input(x)))

    def _mixed(self, x: Tensor, rows: RowMap) -> Tensor:
        entries = rows.by_row(x)
        plan = self._planner.plan(rows.composition(entries), entries)
        assert plan is not None, "a slot that this batch uses was cleared meanwhile"

        def base(seen: Tensor) -> Tensor:
            return rows.by_row(self.base(x if seen is entries else seen.view_as(x)))

        return rows.as_seen(plan.run(self.module, base, entries), x)
