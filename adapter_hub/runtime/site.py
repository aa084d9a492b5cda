"""The adapted site: one wrapper around any module, whatever its weights are stored as."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

from ..store import BASE_SLOT
from ..updates import SiteUpdate
from .rowmap import RowMap


class AdaptedSite:
    """Stands in for a module's ``forward`` while any resident adapter changes it.

    The module itself stays where it is, with its name, weights and hooks. It is only ever called, never
    looked into, so any quantiser's linear will do.

    Args:
        module: the base's module.
        rows: gives the row map in force.
    """

    def __init__(self, module: nn.Module, rows: Callable[[], RowMap]) -> None:
        self.module = module
        self.base = module.forward
        self.updates: dict[int, SiteUpdate] = {}
        self._rows = rows

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

    def __call__(self, x: Tensor) -> Tensor:
        """The site's output for ``x [rows, ..., in]``: each row under its own slot's update."""
        rows = self._rows()
        if rows.everywhere is None:
            return self._mixed(x, rows)
        update = self.updates.get(rows.everywhere)
        if update is None:
            base_output: Tensor = self.base(x)
            return base_output
        return update.output(self.module, x, self.base(update.base_input(x)))

    def _mixed(self, x: Tensor, rows: RowMap) -> Tensor:
        present = [(index.to(x.device), update) for index, update in self._present(rows)]
        if not present:
            base_output: Tensor = self.base(x)
            return base_output
        split = rows.by_row(x)
        parts = [split[index] for index, _ in present]
        y = rows.by_row(self.base(self._base_input(x, split, parts, present)))
        outputs = [
            update.output(self.module, part, y[index]) for part, (index, update) in zip(parts, present, strict=True)
        ]
        # Rows with added tokens are wider; to the others those tokens do not exist.
        width = max(output.shape[-1] for output in outputs)
        if width > y.shape[-1]:
            y = F.pad(y, (0, width - y.shape[-1]), value=float("-inf"))
        for output, (index, _) in zip(outputs, present, strict=True):
            missing = width - output.shape[-1]
            y[index] = F.pad(output, (0, missing), value=float("-inf")) if missing else output
        return rows.as_seen(y, x)

    def _present(self, rows: RowMap) -> Iterator[tuple[Tensor, SiteUpdate]]:
        for slot, index in rows.groups:
            update = self.updates.get(slot) if slot != BASE_SLOT else None
            if update is not None:
                yield index, update

    @staticmethod
    def _base_input(x: Tensor, split: Tensor, parts: list[Tensor], present: list[tuple[Tensor, SiteUpdate]]) -> Tensor:
        seen: Tensor | None = None
        for part, (index, update) in zip(parts, present, strict=True):
            changed = update.base_input(part)
            if changed is not part:
                seen = split.clone() if seen is None else seen
                seen[index] = changed
        return x if seen is None else seen.view_as(x)
