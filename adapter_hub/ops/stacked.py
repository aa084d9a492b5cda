"""Large products over stacked updates, in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..updates import LinearUpdate, SiteUpdate
from .composition import Places
from .plan import BaseCall
from .reference import GroupPlan, own_memory
from .scratch import in_float32, product
from .stacks import Stack


class StackedPart:
    """Some lanes of a stack over the tokens of their slots: the canonical form for all of them at once.

        y[t] = out_scale[l] * y[t] + branch_scale[l] * (B[l] (mid_scale[l] * (A[l] x[t]))) + bias[l],  l = lane(t)

    with the roundings of ``LinearUpdate.output``, in the same order.

    Args:
        stack: the updates side by side; shapes as there.
        lanes: those that this batch uses.
        places: where the tokens of each of these lanes are.
    """

    def __init__(self, stack: Stack, lanes: slice, places: Places) -> None:
        self.stack = stack
        self.places = places
        self.parts = {name: part[lanes] for name, part in stack.parts.items()}
        self._shared_A = stack.shared.get("A")
        self._shared_B = stack.shared.get("B")
        self._has_branch = "A" in self.parts or self._shared_A is not None
        self._only_branch = not self.parts.keys() & {"out_scale", "bias"}
        A = self.parts.get("A")
        self._A = None if A is None else A.transpose(1, 2)

    def scale_input(self, x: Tensor, seen: Tensor) -> Tensor:
        """``in_scale * x`` for these tokens, written into ``seen``, or a copy where that is still ``x``."""
        scale = self.parts.get("in_scale")
        if scale is None:
            return seen
        seen = x.clone() if seen is x else seen
        self.places.put(seen, self.places.take(x) * self.places.of_lane(scale).to(x.dtype))
        return seen

    def apply(self, x: Tensor, y: Tensor) -> None:
        """Change ``y`` in place. Shapes: ``x [tokens, in]``, ``y [tokens, out]``."""
        branch = self._branch(x).to(y.dtype) if self._has_branch else None
        if self._only_branch:
            if branch is not None:
                self.places.add(y, branch)
            return
        own = self.places.take(y)
        if "out_scale" in self.parts:
            own = own * self.places.of_lane(self.parts["out_scale"])
        if branch is not None:
            own = own + branch
        if "bias" in self.parts:
            own = own + self.places.of_lane(self.parts["bias"])
        self.places.put(y, own.to(y.dtype))

    def _branch(self, x: Tensor) -> Tensor:
        """The low-rank branch in float32: [tokens, in] -> [m, out]. Valid until this thread's next one."""
        places, mid = self.places, self.parts.get("mid_scale")
        lanes = self._shared_B is None
        if self._A is None:
            h = F.linear(places.take(x).float(), self._shared_A.float())  # type: ignore[union-attr]
            h = places.to_lanes(h) if lanes else h
        else:
            h = product("h", in_float32(places.in_lanes(x)), self._A)
            h = h if lanes else places.from_lanes(h)
        if mid is not None:
            h = h * (mid.unsqueeze(1) if lanes else places.of_lane(mid))
        if self._shared_B is not None:
            branch = F.linear(h, self._shared_B.float())
        else:
            branch = places.from_lanes(product("branch", h, self.parts["B"]))
        scale = self.parts.get("branch_scale")
        return branch if scale is None else branch * places.of_lane(scale)


class StackedPlan:
    """Stacked parts in place on the base's output, and group by group what cannot be stacked.

    Args:
        parts: they concern different tokens.
        groups: the other entries and their updates.
    """

    def __init__(self, parts: Sequence[StackedPart], groups: GroupPlan) -> None:
        self.parts = tuple(parts)
        self.groups = groups

    def uses(self, update: SiteUpdate) -> bool:
        """Whether anything here keeps an update alive."""
        return any(update is other for _, other in self.groups.groups) or (
            isinstance(update, LinearUpdate) and any(update in part.stack.lanes for part in self.parts)
        )

    def run(self, module: nn.Module, base: BaseCall, x: Tensor) -> Tensor:
        """See ``Plan``."""
        tokens = x.reshape(-1, x.shape[-1])
        seen = tokens
        for part in self.parts:
            seen = part.scale_input(tokens, seen)
        of_groups = [x[where] for where, _ in self.groups.groups]
        seen = self.groups.seen(x, x if seen is tokens else seen.view_as(x), of_groups)
        y = own_memory(base(seen), seen).contiguous()
        flat = y.view(-1, y.shape[-1])
        for part in self.parts:
            part.apply(tokens, flat)
        return self.groups.finish(module, of_groups, y) if of_groups else y
