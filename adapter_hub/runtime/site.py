"""The adapted site: one wrapper around any module, whatever its weights are stored as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

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
        path: the site's name, by which a row map knows merged weights.
        is_head: whether this is the model's output head, which may see a few tokens of a batch alone.
        sequence_first: whether the module sees [tokens, rows, n].
    """

    def __init__(
        self,
        module: nn.Module,
        rows: Callable[[], RowMap],
        make_planner: MakePlanner = ReferencePlanner,
        path: str = "",
        *,
        is_head: bool = False,
        sequence_first: bool = False,
    ) -> None:
        self.module = module
        self.path = path
        self.is_head = is_head
        self.base = module.forward
        self.updates: dict[int, SiteUpdate] = {}
        self._whole: set[int] = set()
        self._rows = rows
        self._sequence_first = sequence_first
        self._planner = make_planner(self.updates)

    @property
    def structure(self) -> tuple[object, ...] | None:
        """What a captured graph depends on here; None where none can be captured."""
        return getattr(self._planner, "structure", None)

    @property
    def alone(self) -> frozenset[int]:
        """Slots that no captured graph can serve here."""
        return getattr(self._planner, "alone", frozenset(self.updates))

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
        if rows.merged is not None:
            linear = rows.merged.get(self.path)
            # Where a model computes in a type of its own (a head in float32), the factors path follows it.
            if linear is not None and linear[0].dtype == x.dtype:
                return F.linear(x, *linear)
        if self.is_head:
            rows = rows.of_head()
        if rows.everywhere is None:
            if rows.static is None and self.updates.keys().isdisjoint(rows.slots):
                return self.base(x, *others)
            if others or (self._whole and not self._whole.isdisjoint(rows.slots)):
                return run_apart(self.base, self.module, self.updates, rows, (x, *others))
            if self._sequence_first:
                return self._mixed(x.transpose(0, 1), rows).transpose(0, 1)
            return self._mixed(x, rows)
        if rows.everywhere not in self.updates:
            return self.base(x, *others)
        update = self._planner.prepared(rows.everywhere)
        if takes_place(update):
            return update.forward(self.module, x, *others)
        return update.output(self.module, x, self.base(update.base_input(x)))

    def _mixed(self, x: Tensor, rows: RowMap) -> Tensor:
        plan = self._planner.plan(rows.composition(x), x)
        assert plan is not None, "a slot that this batch uses was cleared meanwhile"
        if not plan.by_entry:
            return plan.run(self.module, self.base, x)
        entries = rows.by_row(x)

        def base(seen: Tensor) -> Tensor:
            return rows.by_row(self.base(x if seen is entries else seen.view_as(x)))

        return rows.as_seen(plan.run(self.module, base, entries), x)
