"""Group by group, each update in its own words: the path of every update there is, and the oracle of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..updates import SiteUpdate
from .composition import Composition
from .plan import BaseCall

Where = slice | Tensor
Group = tuple[Where, SiteUpdate]


class GroupPlan:
    """Calls each update on its own entries.

        y[where] = update.output(module, x[where], base(seen)[where]),  seen[where] = update.base_input(x[where])

    Args:
        groups: entries and their update.
    """

    by_entry = True

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = tuple(groups)

    def run(self, module: nn.Module, base: BaseCall, x: Tensor) -> Tensor:
        """See ``Plan``."""
        parts = [x[where] for where, _ in self.groups]
        y = base(self.seen(x, x, parts))
        return self.finish(module, parts, own_memory(y, x))

    def seen(self, x: Tensor, seen: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """What the base gets to see of ``x``; written into ``seen``, or a copy where that is still ``x``."""
        for part, (where, update) in zip(parts, self.groups, strict=True):
            changed = update.base_input(part)
            if changed is not part:
                seen = x.clone() if seen is x else seen
                seen[where] = changed
        return seen

    def finish(self, module: nn.Module, parts: Sequence[Tensor], y: Tensor) -> Tensor:
        """Write the groups' outputs into ``y`` [entries, ..., out], or into a wider copy of it."""
        outputs = [
            update.output(module, part, y[where]) for part, (where, update) in zip(parts, self.groups, strict=True)
        ]
        # Rows with added tokens are wider; to the others those tokens do not exist.
        width = max((output.shape[-1] for output in outputs), default=0)
        if width > y.shape[-1]:
            y = F.pad(y, (0, width - y.shape[-1]), value=float("-inf"))
        for output, (where, _) in zip(outputs, self.groups, strict=True):
            missing = y.shape[-1] - output.shape[-1]
            y[where] = F.pad(output, (0, missing), value=float("-inf")) if missing else output
        return y


class ReferencePlanner:
    """Plans every composition group by group, and keeps nothing."""

    def __init__(self, updates: Mapping[int, SiteUpdate]) -> None:
        self.updates = updates

    def plan(self, composition: Composition, x: Tensor) -> GroupPlan | None:
        """See ``Planner``."""
        groups = groups_of(self.updates, composition, x)
        return GroupPlan(groups) if groups else None

    def prepared(self, slot: int) -> SiteUpdate:
        """See ``Planner``."""
        return self.updates[slot]

    def changed(self, slot: int, gone: SiteUpdate | None = None) -> None:
        """See ``Planner``."""


def groups_of(updates: Mapping[int, SiteUpdate], composition: Composition, x: Tensor) -> list[Group]:
    """Entries of ``x`` and their update, for each slot of a batch that has one here."""
    return [(entries_of(composition, slot, x.device), updates[slot]) for slot in composition.spans if slot in updates]


def entries_of(composition: Composition, slot: int, device: torch.device) -> Where:
    """Entries that a slot serves: a slice where they lie together, which costs no copy."""
    tokens = composition.entry_tokens
    spans = [(begin // tokens, end // tokens) for begin, end in composition.spans[slot]]
    if len(spans) == 1:
        return slice(*spans[0])
    with torch.inference_mode(False):
        return torch.tensor([entry for begin, end in spans for entry in range(begin, end)], device=device)


def own_memory(y: Tensor, x: Tensor) -> Tensor:
    """The base's output, copied where a module hands its input through: ``y`` is going to be written."""
    return y.clone() if y.data_ptr() == x.data_ptr() else y
