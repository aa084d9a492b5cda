"""The composition of a batch: which tokens belong to which slot."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import pairwise
from weakref import WeakValueDictionary

import torch
from torch import Tensor

Span = tuple[int, int]


class Composition:
    """Slots and lengths of a batch's sequences. Equal ones in use are one object, so that plans can be kept by it.

    Tokens are counted in the order in which a site sees them.

    Args:
        slots: one slot a sequence.
        lengths: tokens a sequence.
        spans: by slot, the runs of its tokens as (begin, end); neighbours are one run.
        counts: by slot, its tokens.
    """

    is_static = False

    def __init__(self, slots: Sequence[int], lengths: Sequence[int]) -> None:
        self.slots = tuple(slots)
        self.lengths = tuple(lengths)
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
        self._places: dict[tuple[object, ...], Places] = {}
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
                found = Composition(slots, (lengths,) * len(slots) if isinstance(lengths, int) else lengths)
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
            with torch.inference_mode(False):
                found = self._places[key] = Places(self, lanes, width, device)
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


class Places:
    """Two orders of the same rows: that of the batch's tokens, and lanes of equal width, one a slot.

    Args:
        lanes: slot of each lane; None for one that this batch does not use.
        width: places a lane; what a lane has left over holds token 0, and nobody reads its result.

    ``tokens`` [m] are the positions of all tokens concerned, increasing; ``lane`` [m] is the lane of each.
    """

    def __init__(self, composition: Composition, lanes: Sequence[int | None], width: int, device: torch.device) -> None:
        self.shape = (len(lanes), width)
        self.slots = frozenset(lanes) - {None}
        source, place = [0] * (len(lanes) * width), {}
        for lane, slot in enumerate(lanes):
            members = () if slot is None else composition.tokens_of(slot)
            for k, token in enumerate(members):
                source[lane * width + k] = token
                place[token] = lane * width + k
        tokens = sorted(place)
        back = [place[token] for token in tokens]
        self.whole = len(tokens) == composition.num_tokens
        self.run = slice(tokens[0], tokens[-1] + 1) if tokens[-1] - tokens[0] == len(tokens) - 1 else None
        self._in_order = self.whole and source == tokens
        self._back_in_order = all(b == a + 1 for a, b in pairwise(back)) and len(back) == len(source)
        self.tokens, self._source, self._back, self.lane = (
            torch.tensor(index, device=device) for index in (tokens, source, back, [p // width for p in back])
        )

    def take(self, x: Tensor) -> Tensor:
        """The tokens concerned out of all: [tokens, n] -> [m, n]."""
        if self.run is not None:
            return x if self.whole else x[self.run]
        return x.index_select(0, self.tokens)

    def put(self, x: Tensor, values: Tensor) -> None:
        """Write the tokens concerned in place: ``x`` [tokens, n], ``values`` [m, n]."""
        if self.run is not None:
            x[self.run] = values
        else:
            x.index_copy_(0, self.tokens, values)

    def add(self, x: Tensor, values: Tensor) -> None:
        """Add to the tokens concerned in place: ``x`` [tokens, n], ``values`` [m, n]."""
        if self.run is not None:
            (x if self.whole else x[self.run]).add_(values)
        else:
            x.index_add_(0, self.tokens, values)

    def in_lanes(self, x: Tensor) -> Tensor:
        """All tokens in the order of lanes: [tokens, n] -> [lanes, width, n]."""
        return (x if self._in_order else x.index_select(0, self._source)).view(*self.shape, -1)

    def to_lanes(self, values: Tensor) -> Tensor:
        """The tokens concerned in the order of lanes: [m, n] -> [lanes, width, n]; other places are zero."""
        if self._back_in_order:
            return values.view(*self.shape, -1)
        spread = values.new_zeros(self.shape[0] * self.shape[1], values.shape[-1])
        return spread.index_copy_(0, self._back, values).view(*self.shape, -1)

    def from_lanes(self, values: Tensor) -> Tensor:
        """Back in the order of tokens: [lanes, width, n] -> [m, n]."""
        flat = values.flatten(0, 1)
        return flat if self._back_in_order else flat.index_select(0, self._back)

    def of_lane(self, parameter: Tensor) -> Tensor:
        """A parameter of each token's lane: [lanes, n] -> [m, n]."""
        return parameter if self._back_in_order and self.shape[1] == 1 else parameter.index_select(0, self.lane)
