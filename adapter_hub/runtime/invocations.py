"""Adapters that act from certain tokens of a row on: where those are, and what has been found before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from ..errors import RowMapError
from .cutrows import CutRowMap
from .rowmap import RowMap

NO_TOKEN = -1


class Invocations:
    """Finds the tokens of a forward from which its rows use their slots.

    What continues a cache (a step of decoding, a further chunk of a prompt) continues with what that cache's rows had
    come to: an adapter that has begun to act goes on, until its invocation is met again.

    ``of_slot`` holds the invocation of each slot that has one.
    """

    def __init__(self) -> None:
        self.of_slot: dict[int, tuple[int, ...]] = {}
        self._begun: WeakKeyDictionary[Any, tuple[bool, ...]] = WeakKeyDictionary()

    def cut(self, rows: RowMap, num_rows: int, ids: Tensor | None, mask: Tensor | None, cache: Any) -> RowMap:
        """The map of a forward's rows, each with its slot from its invocation on.

        Args:
            rows: by row, whatever their tokens; packed sequences are cut by whoever packs them.
            num_rows: rows of the batch.
            ids: [rows, tokens]
            mask: [rows, tokens], 0 where a row is padded; anything else says nothing of padding.
            cache: what the forward continues, if it does.

        Raises:
            RowMapError: token ids are needed and not there, or the cache is of another number of rows.
        """
        slots = rows.slots if rows.everywhere is None else (rows.everywhere,) * num_rows
        if rows.lengths is not None or self.of_slot.keys().isdisjoint(slots):
            return rows
        if ids is None:
            raise RowMapError(
                "an adapter of this batch acts from certain tokens on, and the forward has embeddings alone.",
                hint="Call the model with input_ids.",
            )
        continues = cache is not None and cache.get_seq_length() > 0
        begun = self._begun.get(cache, (False,) * num_rows) if continues else (False,) * num_rows
        if len(begun) != num_rows:
            raise RowMapError(
                f"the cache holds {len(begun)} rows, the batch has {num_rows}.", hint="Continue the rows that it holds."
            )
        num_tokens = ids.shape[1]
        begins = [
            0 if slot not in self.of_slot or has_begun else num_tokens
            for slot, has_begun in zip(slots, begun, strict=True)
        ]
        if num_tokens > 1 or not continues:
            for row, found in self._found(slots, ids, mask).items():
                begins[row] = found
        if cache is not None:
            self._begun[cache] = tuple(begin < num_tokens for begin in begins)
        return CutRowMap.of(slots, begins, num_tokens)

    def _found(self, slots: Sequence[int], ids: Tensor, mask: Tensor | None) -> dict[int, int]:
        """By row, where its invocation begins, for rows in which it occurs."""
        rows = [row for row, slot in enumerate(slots) if slot in self.of_slot]
        tokens = ids[rows]
        if mask is not None and mask.dim() == 2 and mask.shape[1] >= ids.shape[1]:
            tokens = tokens.masked_fill(mask[rows, -ids.shape[1] :] == 0, NO_TOKEN)
        starts = {
            row: last_occurrence(own, self.of_slot[slots[row]]) for row, own in zip(rows, tokens.tolist(), strict=True)
        }
        return {row: start for row, start in starts.items() if start is not None}


def last_occurrence(ids: Sequence[int], wanted: Sequence[int]) -> int | None:
    """Where ``wanted`` begins in ``ids`` for the last time; None where it does not occur."""
    ids, wanted = list(ids), list(wanted)
    starts = range(len(ids) - len(wanted), -1, -1)
    return next((start for start in starts if ids[start : start + len(wanted)] == wanted), None)
