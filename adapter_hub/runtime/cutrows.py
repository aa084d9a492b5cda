"""The row map of a batch whose rows use their slots from a token on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..errors import RowMapError
from ..ops import Composition
from ..store.slots import BASE_SLOT
from .rowmap import RowMap


@dataclass(frozen=True, eq=False)
class CutRowMap(RowMap):
    """Rows of one length, each the base's up to a token and its slot's from there on.

    A site's input is seen as entries of one token. Where a site sees fewer tokens a row than the forward has, as an
    output head does, they are the last ones.

    Args:
        begins: by row, the first token that uses its slot; the rest is as in ``RowMap``, with ``tokens`` known.
    """

    begins: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "everywhere", None)

    @classmethod
    def of(cls, slots: Sequence[int], begins: Sequence[int], tokens: int) -> RowMap:
        """The map of these rows; an ordinary one where no row is cut.

        Args:
            slots: one slot a row.
            begins: by row; from ``tokens`` on, the whole row is the base's.
            tokens: tokens a row.
        """
        used = [BASE_SLOT if begin >= tokens else slot for slot, begin in zip(slots, begins, strict=True)]
        begins = [0 if begin >= tokens else begin for begin in begins]
        if not any(begins):
            return RowMap(tuple(used)).for_batch(len(used), tokens)
        return cls(tuple(used), tokens=tokens, begins=tuple(begins))

    def by_row(self, x: Tensor) -> Tensor:
        """``x`` with one leading position a token.

        Raises:
            RowMapError: its leading dimensions have nothing to do with the batch.
        """
        assert self.tokens is not None
        rows = len(self.slots)
        if self._is_by_row(x):
            return x.flatten(0, 1)
        if x.dim() == 2 and x.shape[0] in (rows, rows * self.tokens):
            return x
        raise RowMapError(
            f"a site saw an input of shape {list(x.shape)} in a batch of {rows} rows of {self.tokens} tokens.",
            hint="This architecture regroups its tokens there; give all rows of a batch one adapter.",
        )

    def as_seen(self, y: Tensor, x: Tensor) -> Tensor:
        """The reverse of ``by_row``."""
        return y.unflatten(0, x.shape[:2]) if self._is_by_row(x) else y

    def _is_by_row(self, x: Tensor) -> bool:
        """Whether ``x`` has a dimension of rows and one of tokens; rows of features alone are of one token each."""
        return x.shape[0] == len(self.slots) and (x.dim() > 2 or not x.is_floating_point())

    def _composed(self, entries: Tensor) -> Composition:
        assert self.tokens is not None
        seen = len(entries) // len(self.slots)
        segments: list[tuple[int, int]] = []
        for slot, begin in zip(self.slots, self.begins, strict=True):
            bare = min(max(begin - (self.tokens - seen), 0), seen)
            segments += [(owner, length) for owner, length in ((BASE_SLOT, bare), (slot, seen - bare)) if length]
        slots, lengths = zip(*segments, strict=True)
        return Composition.of(slots, lengths)
