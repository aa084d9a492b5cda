"""The row map: which slot each row of a batch uses."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import RowMapError
from ..ops import Composition, StaticComposition

Linear = tuple[Tensor, Tensor | None]  # weight [out', in] and bias [out']


@dataclass(frozen=True, eq=False)
class RowMap:
    """Slots by batch row, or by sequence of a packed batch, or one slot for every row of any batch.

    A site's input is seen as entries: batch rows, or the tokens of a packed batch.

    Args:
        slots: one slot number a row or sequence; empty where ``everywhere`` is given.
        everywhere: the slot that all rows use, if they do.
        tokens: tokens a row of the running forward, once it is known.
        lengths: tokens a sequence, where sequences lie packed in one row; see ``packed``.
        kept: the map that the output head sees, where the model gives it a few tokens of a packed batch alone.
        static: slots that stand on the device, where a graph is captured; see ``captured``.
        merged: by site, the linears to run in place of base and update. None leaves it to the cache of merged
            weights whether there are any; an empty mapping is the factors path everywhere.

    Raises:
        RowMapError: slots and lengths do not belong together.
    """

    slots: tuple[int, ...] = ()
    everywhere: int | None = None
    tokens: int | None = None
    lengths: tuple[int, ...] | None = None
    kept: RowMap | None = None
    static: StaticComposition | None = None
    merged: Mapping[str, Linear] | None = field(default=None, repr=False)
    _compositions: dict[tuple[torch.Size, bool], Composition] = field(init=False, repr=False, default_factory=dict)
    _ran: list[Mapping[str, Linear]] = field(init=False, repr=False, default_factory=list)  # shared with its copies

    def __post_init__(self) -> None:
        if self.lengths is not None:
            self._check_lengths(self.lengths)
        if self.static is None and self.everywhere is None and len(set(self.slots)) == 1:
            object.__setattr__(self, "everywhere", self.slots[0])

    @classmethod
    def packed(cls, slots: Sequence[int], lengths: Sequence[int], ends: Sequence[int] | None = None) -> RowMap:
        """The map of sequences that lie one after the other in a single row, as continuous batching packs them.

        Args:
            slots: one slot a sequence. Padding is a sequence too, of the base's slot.
            lengths: tokens a sequence; together they are the tokens of the batch.
            ends: the sequences whose last token alone the output head sees; None: it sees every token.

        Raises:
            RowMapError: there are more of the one than of the other, or a sequence has no tokens.
        """
        kept = None if not ends else cls(tuple(slots[k] for k in ends), lengths=(1,) * len(ends))
        return cls(tuple(slots), lengths=tuple(lengths), kept=kept)

    @classmethod
    def captured(cls, static: StaticComposition) -> RowMap:
        """The map of a packed batch of one token a row, whose slots are read when a captured graph is replayed."""
        return cls(static.slots, lengths=static.lengths, static=static)

    def of_head(self) -> RowMap:
        """The map of the tokens that the output head sees."""
        return self if self.kept is None else self.kept

    @property
    def num_entries(self) -> int:
        """Batch rows, or tokens of a packed batch."""
        return len(self.slots) if self.lengths is None else sum(self.lengths)

    def for_batch(self, rows: int, tokens: int) -> RowMap:
        """The same map, held against the batch that is about to run.

        Raises:
            RowMapError: it was made for another number of rows, or of packed tokens.
        """
        if self.lengths is not None and (rows, tokens) != (1, self.num_entries):
            raise RowMapError(
                f"sequences of {self.num_entries} tokens were given for a batch of {rows} rows of {tokens} tokens.",
                hint="Packed sequences lie in one row and fill it; name padding as a sequence of the base.",
            )
        if self.lengths is None and self.slots and len(self.slots) != rows:
            raise RowMapError(
                f"{len(self.slots)} adapters were given for a batch of {rows} rows.",
                hint="Give one adapter name (or None) for each row.",
            )
        mapped = copy.copy(self)
        object.__setattr__(mapped, "tokens", tokens)
        object.__setattr__(mapped, "_compositions", {})  # what a shape means depends on the tokens
        return mapped

    def with_merged(self, linears: Mapping[str, Linear]) -> RowMap:
        """The same map, to run these linears."""
        mapped = copy.copy(self)
        object.__setattr__(mapped, "merged", linears)
        self._ran.append(linears)
        return mapped

    @property
    def ran_merged(self) -> bool:
        """Whether merged weights ran for it, or for a copy that a forward made of it."""
        return bool(self._ran)

    def by_row(self, x: Tensor) -> Tensor:
        """``x`` with one leading position an entry: as it is, out of its one packed row, or from flat tokens.

        Raises:
            RowMapError: its leading dimensions have nothing to do with the batch.
        """
        entries = self.num_entries
        if self.lengths is not None:
            if x.shape[:2] == (1, entries):
                return x[0]
            if x.dim() == 2 and x.shape[0] == entries:
                return x
            raise RowMapError(
                f"a site saw an input of shape {list(x.shape)} in a packed batch of {entries} tokens.",
                hint="This site does not see every token of the batch; give all sequences one adapter.",
            )
        if x.shape[0] == entries:
            return x
        if x.dim() == 2 and self.tokens is not None and x.shape[0] == entries * self.tokens:
            return x.unflatten(0, (entries, self.tokens))
        raise RowMapError(
            f"a site saw an input of shape {list(x.shape)} in a batch of {entries} rows of {self.tokens} tokens.",
            hint="This architecture regroups its tokens there; give all rows of a batch one adapter.",
        )

    def as_seen(self, y: Tensor, x: Tensor) -> Tensor:
        """The reverse of ``by_row``: entries of an output in the shape in which the site saw its input ``x``."""
        if self.lengths is None:
            return y if x.shape[0] == y.shape[0] else y.flatten(0, 1)
        return y.unsqueeze(0) if x.shape[:2] == (1, self.num_entries) else y

    def composition(self, x: Tensor) -> Composition:
        """Whose tokens a site's input consists of; found once for all sites that see the like.

        Args:
            x: [..., n], or token ids, as the site sees it.

        Raises:
            RowMapError: its leading dimensions have nothing to do with the batch.
        """
        like = x.shape[:-1], x.is_floating_point()  # token ids have no dimension of features
        found = self._compositions.get(like)
        if found is None:
            found = self._compositions[like] = self.static or self._composed(self.by_row(x))
        return found

    def _composed(self, entries: Tensor) -> Composition:
        lengths = entries.shape[1:-1].numel() if self.lengths is None else self.lengths
        return Composition.of(self.slots, lengths)

    def _check_lengths(self, lengths: tuple[int, ...]) -> None:
        if len(self.slots) != len(lengths) or any(length < 1 for length in lengths):
            raise RowMapError(
                f"{len(self.slots)} slots were given for packed sequences of {list(lengths)} tokens.",
                hint="Give one slot a sequence, and leave out sequences without tokens.",
            )


# What the running forward, or the enclosing ``rows`` block, has chosen. Context variables keep threads apart.
CURRENT: ContextVar[RowMap | None] = ContextVar("adapter_hub_rows", default=None)


@contextmanager
def in_force(rows: RowMap) -> Iterator[None]:
    """Give every forward of this block, in this thread, these rows."""
    token = CURRENT.set(rows)
    try:
        yield
    finally:
        CURRENT.reset(token)
