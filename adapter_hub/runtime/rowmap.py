"""The row map: which slot each row of a batch uses."""

from __future__ import annotations

import copy
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import RowMapError


@dataclass(frozen=True, eq=False)
class RowMap:
    """Slots by batch row, or one slot for every row of any batch.

    Args:
        slots: one slot number a row; empty where ``everywhere`` is given.
        everywhere: the slot that all rows use, if they do.
        tokens: tokens a row of the running forward, once it is known.
    """

    slots: tuple[int, ...] = ()
    everywhere: int | None = None
    tokens: int | None = None
    groups: tuple[tuple[int, Tensor], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.everywhere is None and len(set(self.slots)) == 1:
            object.__setattr__(self, "everywhere", self.slots[0])
        rows: dict[int, list[int]] = {}
        for row, slot in enumerate(self.slots):
            rows.setdefault(slot, []).append(row)
        groups = tuple((slot, torch.tensor(members)) for slot, members in rows.items())
        object.__setattr__(self, "groups", groups)

    def for_batch(self, rows: int, tokens: int) -> RowMap:
        """The same map, held against the batch that is about to run.

        Raises:
            RowMapError: it was made for another number of rows.
        """
        if self.slots and len(self.slots) != rows:
            raise RowMapError(
                f"{len(self.slots)} adapters were given for a batch of {rows} rows.",
                hint="Give one adapter name (or None) for each row.",
            )
        mapped = copy.copy(self)  # with the groups already made
        object.__setattr__(mapped, "tokens", tokens)
        return mapped

    def by_row(self, x: Tensor) -> Tensor:
        """``x`` with one leading entry a row: as it is, or from tokens in row order.

        Raises:
            RowMapError: its leading dimension has nothing to do with the batch.
        """
        rows = len(self.slots)
        if x.shape[0] == rows:
            return x
        if x.dim() == 2 and self.tokens is not None and x.shape[0] == rows * self.tokens:
            return x.unflatten(0, (rows, self.tokens))
        raise RowMapError(
            f"a site saw an input of shape {list(x.shape)} in a batch of {rows} rows of {self.tokens} tokens.",
            hint="This architecture regroups its tokens there; give all rows of a batch one adapter.",
        )


# What the running forward, or the enclosing ``rows`` block, has chosen. Context variables keep threads apart.
CURRENT: ContextVar[RowMap | None] = ContextVar("adapter_hub_rows", default=None)
