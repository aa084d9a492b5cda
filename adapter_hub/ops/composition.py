"""The composition of a batch: which tokens belong to which slot."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from .bags import Bags
from .places import Places

if TYPE_CHECKING:
    from .recipe import Recipe, Signature

Span = tuple[int, int]


class Composition:
    """Slots and lengths of a batch's sequences. Equal ones in use are one object, so that plans can be kept by it.

    Tokens are counted in the order in which a site sees them.

    Args:
        slots: one slot a sequence.
        lengths: tokens a sequence.
        entry_tokens: tokens an entry; a sequence is one entry, or as many as it has tokens.
        spans: by slot, the runs of its tokens as (begin, end); neighbours are one run.
        counts: by slot, its tokens.

    ``recipes`` are what planners have worked out for it.
    """

    is_static = False

    def __init__(self, slots: Sequence[int], lengths: Sequence[int], entry_tokens: int = 1) -> None:
        self.slots = tuple(slots)
        self.lengths = tuple(lengths)
        self.entry_tokens = entry_tokens
        self.num_tokens = sum(lengths)
        self.spans: dict[int, list[Span]] = {}
        begin = 0
        for slot, length in zip(slots, lengths, strict=True):
            runs = self.spans.setdefault(slot, [])
            if runs and runs[-1][1] == begin:
                runs[-1] = (runs[-1][0], begin + length)
            else:
                runs.append((begin, begin + length))
            begin += length
        self.counts = {slot: sum(end - begin for begin, end in runs) for slot, runs in self.spans.items()}
        self.recipes: dict[tuple[Signature, torch.dtype, torch.device], Recipe] = {}
        self._places: dict[tuple[object, ...], Places] = {}
        self._bags: dict[tuple[object, ...], Bags] = {}
        self._slot_of_token: dict[torch.device, Tensor] = {}
        self._tiles: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    @staticmethod
    def of(slots: tuple[int, ...], lengths: tuple[int, ...] | int) -> Composition:
        """The composition of these sequences; one length stands for all.

        Rows of like length and a packed batch of the same sequences stay two: a plan counts rows for the one and
        tokens for the other.
        """
        with _LOCK:
            found = _ALIVE.get((slots, lengths))
            if found is None:
                if isinstance(lengths, int):
                    found = Composition(slots, (lengths,) * len(slots), max(1, lengths))
                else:
                    found = Composition(slots, lengths)
                _ALIVE[slots, lengths] = found
        return found

    def tokens_of(self, slot: int) -> list[int]:
        """Positions of a slot's tokens."""
        return [token for begin, end in self.spans[slot] for token in range(begin, end)]

    def places(self, lanes: tuple[int | None, ...], width: int, device: torch.device) -> Places:
        """Where the tokens of these slots stand when each slot has a lane of ``width`` places; made once."""
        key = (lanes, width, device)
        found = self._places.get(key)
        if found is None:
            tokens = [() if slot is None else self.tokens_of(slot) for slot in lanes]
            found = self._places[key] = Places(tokens, width, self.num_tokens, device)
        return found

    def bags(self, slots: tuple[int, ...], lanes: tuple[int, ...], device: torch.device) -> Bags:
        """Tokens of these slots, each in its slot's lane; made once."""
        key = (slots, lanes, device)
        found = self._bags.get(key)
        if found is None:
            tokens = {lane: self.tokens_of(slot) for lane, slot in zip(lanes, slots, strict=True)}
            found = self._bags[key] = Bags(tokens, self.num_tokens, device)
        return found

    def slot_of_token(self, device: torch.device) -> Tensor:
        """Slots by token, int32 [tokens]; made once."""
        found = self._slot_of_token.get(device)
        if found is None:
            with torch.inference_mode(False):
                slots, lengths = torch.tensor(self.slots), torch.tensor(self.lengths)
                found = slots.repeat_interleave(lengths).to(device, torch.int32)
            self._slot_of_token[device] = found
        return found

    def tiles(self, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Tokens in tiles of one slot, made once: (slots int32 [tiles], tokens int32 [tiles, width], -1 for none).

        Where no slot has more than a few tokens each tile holds one, and tiles are tokens.
        """
        found = self._tiles.get((width, device))
        if found is None:
            with torch.inference_mode(False):
                found = self._tiles[width, device] = self._cut(width, device)
        return found

    def _cut(self, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if max(self.counts.values()) < width // 2:
            tokens = torch.arange(self.num_tokens, dtype=torch.int32, device=device)
            return self.slot_of_token(device), tokens.unsqueeze(1)
        slots, rows = [], []
        for slot in self.spans:
            members = self.tokens_of(slot)
            for begin in range(0, len(members), width):
                tile = members[begin : begin + width]
                slots.append(slot)
                rows.append(tile + [-1] * (width - len(tile)))
        return tuple(torch.tensor(made, dtype=torch.int32, device=device) for made in (slots, rows))  # type: ignore[return-value]


class StaticComposition(Composition):
    """One token a row, of slots that stand on the device and change between replays of a captured graph.

    Args:
        num_rows: rows of the graph.
        device: where it runs.

    ``slots_on_device`` int32 [num_rows] is to be written before a replay.
    """

    is_static = True

    def __init__(self, num_rows: int, device: torch.device) -> None:
        super().__init__((0,) * num_rows, (1,) * num_rows)
        with torch.inference_mode(False):
            self.slots_on_device = torch.zeros(num_rows, dtype=torch.int32, device=device)
            self._tokens = torch.arange(num_rows, dtype=torch.int32, device=device).unsqueeze(1)

    def slot_of_token(self, device: torch.device) -> Tensor:
        """See ``Composition``; always the same tensor."""
        return self.slots_on_device

    def tiles(self, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """One token a tile, whatever the slots are."""
        return self.slots_on_device, self._tokens


# Kept by the row maps and plans that use them: what they hold on the device goes when the last of those does.
_ALIVE: WeakValueDictionary[tuple[tuple[int, ...], tuple[int, ...] | int], Composition] = WeakValueDictionary()
_LOCK = threading.Lock()
