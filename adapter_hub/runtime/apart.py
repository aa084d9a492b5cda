"""Rows of different adapters through a module part by part, where its work cannot be shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..ops.places import Places
from ..updates import SiteUpdate, takes_place
from .rowmap import RowMap


def run_apart(
    base: Callable[..., Any],
    module: nn.Module,
    updates: Mapping[int, SiteUpdate],
    rows: RowMap,
    inputs: tuple[Any, ...],
) -> Any:
    """The module's output for a mixed batch: the base's on rows without an update, and each update's on its own.

    Args:
        base: the module's own forward.
        module: the module.
        updates: by slot.
        rows: the rows of the batch.
        inputs: what the module was called with. The first is [tokens, n], or [rows, tokens, n] or alike; tensors that
            lead with the same sizes are split by rows, anything else goes to every part as it is.

    Returns:
        What the module gives: a tensor or a tuple of them, all with a position a token.
    """
    x: Tensor = inputs[0]
    leading = x.shape[:-1]
    composition = rows.composition(x)
    bare = tuple(slot for slot in composition.spans if slot not in updates)
    groups = [bare] * bool(bare) + [(slot,) for slot in composition.spans if slot in updates]
    parts = []
    for slots in groups:
        places = composition.places(slots, max(composition.counts[slot] for slot in slots), x.device)
        own = tuple(_part(value, places, leading) for value in inputs)
        update = updates.get(slots[0])
        parts.append((places, base(*own) if update is None else _served(update, module, base, own)))
    return _joined(parts, leading)


def _served(update: SiteUpdate, module: nn.Module, base: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    if takes_place(update):
        return update.forward(module, *inputs)
    return update.output(module, inputs[0], base(update.base_input(inputs[0]), *inputs[1:]))


def _part(value: Any, places: Places, leading: Sequence[int]) -> Any:
    """The tokens of one part, in as many dimensions as all of them had."""
    if not isinstance(value, Tensor) or value.shape[: len(leading)] != leading:
        return value
    part = places.take(value.flatten(0, len(leading) - 1))
    return part.view(*[1] * (len(leading) - 1), *part.shape)


def _joined(parts: Sequence[tuple[Places, Any]], leading: Sequence[int]) -> Any:
    """The outputs of all parts in the order of the batch."""
    places, first = parts[0]
    if isinstance(first, tuple):
        return tuple(_joined([(places, output[k]) for places, output in parts], leading) for k in range(len(first)))
    # Some modules give tokens without the dimensions they came in.
    kept = len(leading) if first.shape[: len(leading)] == (*[1] * (len(leading) - 1), len(places.tokens)) else 1
    num_tokens = sum(len(places.tokens) for places, _ in parts)
    whole = first.new_empty(num_tokens, *first.shape[kept:])
    for places, output in parts:
        places.put(whole, output.flatten(0, kept - 1))
    return whole if kept == 1 else whole.view(*leading, *first.shape[kept:])
