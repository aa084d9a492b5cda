"""Large products over stacked updates, in plain torch."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bags import BagProduct, Bags
from .places import Places
from .plan import BaseCall
from .reference import GroupPlan, own_memory
from .scratch import in_float32, product
from .stacks import Stack

# Tokens a lane from which on a product in 16 bit takes less time than one in float32 (0004-mixed-batches.md).
MANY = 16


class StackedPart(ABC):
    """Some lanes of a stack over the tokens of their slots: the canonical form for all of them at once.

        y[t] = out_scale[l] * y[t] + branch_scale[l] * (B[l] (mid_scale[l] * (A[l] x[t]))) + bias[l],  l = lane(t)

    with the roundings of ``LinearUpdate.output``, in the same order; a stack of 16 bit adds those of its factors and
    of what lies between them.

    Args:
        stack: the updates side by side; shapes as there.
        slots: those that are served.
        tokens: which tokens are theirs, and in which lane each is.
    """

    lanes: slice | Tensor | None = None

    def __init__(self, stack: Stack, slots: tuple[int, ...], tokens: Bags | Places) -> None:
        self.stack = stack
        self.slots = slots
        self.tokens = tokens
        self._shared_A = stack.shared.get("A")
        self._shared_B = stack.shared.get("B")
        self.scales_input = "in_scale" in stack.names
        self._has_branch = "A" in stack.names
        self._only_branch = stack.names.isdisjoint(("out_scale", "bias"))

    def scale_input(self, x: Tensor, seen: Tensor) -> Tensor:
        """``in_scale * x`` for these tokens, written into ``seen``, or a copy where that is still ``x``."""
        seen = x.clone() if seen is x else seen
        scale = self.tokens.of_lane(self._part("in_scale")).to(x.dtype)
        self.tokens.put(seen, self.tokens.take(x) * scale)
        return seen

    def apply(self, x: Tensor, y: Tensor) -> None:
        """Change ``y`` in place. Shapes: ``x [tokens, in]``, ``y [tokens, out]``."""
        if self._only_branch:
            if self._has_branch:
                self.tokens.add(y, self._branch(x).to(y.dtype))
            return
        own = self.tokens.take(y)
        if "out_scale" in self.stack.parts:
            own = own * self.tokens.of_lane(self._part("out_scale"))
        if self._has_branch:
            own = own + self._branch(x).to(y.dtype)
        if "bias" in self.stack.parts:
            own = own + self.tokens.of_lane(self._part("bias"))
        self.tokens.put(y, own.to(y.dtype))

    @abstractmethod
    def _part(self, name: str) -> Tensor:
        """A part of the stack by the lanes that ``tokens`` counts."""

    @abstractmethod
    def _branch(self, x: Tensor) -> Tensor:
        """The low-rank branch: [tokens, in] -> [m, out], or a row for every token where nothing else is to be done."""


class BagPart(StackedPart):
    """Slots with few tokens each: every token multiplies its own rows of the stack."""

    tokens: Bags

    def __init__(self, stack: Stack, slots: tuple[int, ...], tokens: Bags) -> None:
        super().__init__(stack, slots, tokens)
        parts, shared = stack.parts, stack.shared
        if self._has_branch:
            every = self._only_branch and "branch_scale" not in parts
            self._shrink = BagProduct(tokens, parts["A"]) if "A" in parts else _for_all(shared["A"])
            self._expand = BagProduct(tokens, parts["B"], every) if "B" in parts else _for_all(shared["B"])

    def _part(self, name: str) -> Tensor:
        return self.stack.parts[name]

    def _branch(self, x: Tensor) -> Tensor:
        bags, parts = self.tokens, self.stack.parts
        h = self._shrink(bags.take(x))
        if "mid_scale" in parts:
            h = h * bags.of_lane(parts["mid_scale"])
        branch = self._expand(h)
        return branch * bags.of_lane(parts["branch_scale"]) if "branch_scale" in parts else branch


def _for_all(factor: Tensor) -> Callable[[Tensor], Tensor]:
    """The product with a factor that all tokens have in common."""
    return lambda x: F.linear(in_float32(x), factor.float())


class LanePart(StackedPart):
    """Slots with many tokens each: one batched product over lanes of one width.

    Args:
        lanes: of the stack, those that this batch uses and perhaps others between them, or their numbers.
    """

    tokens: Places

    lanes: slice | Tensor

    def __init__(self, stack: Stack, slots: tuple[int, ...], tokens: Places, lanes: slice | Tensor) -> None:
        super().__init__(stack, slots, tokens)
        self.lanes = lanes
        self._as_stored = tokens.shape[1] >= MANY and multiplies(stack.dtype, tokens.tokens.device.type)

    def _part(self, name: str) -> Tensor:
        return self.stack.parts[name][self.lanes]

    def _branch(self, x: Tensor) -> Tensor:
        places, by_lane = self.tokens, self._shared_B is None
        if self._shared_A is not None:
            h = F.linear(places.take(x).float(), self._shared_A.float())
            h = places.to_lanes(h) if by_lane else h
        else:
            h = self._product("h", places.in_lanes(x), self._part("A"))
            h = h if by_lane else places.from_lanes(h)
        if "mid_scale" in self.stack.parts:
            mid = self._part("mid_scale")
            h = h * (mid.unsqueeze(1) if by_lane else places.of_lane(mid))
        if self._shared_B is not None:
            branch = F.linear(h.float(), self._shared_B.float())
        else:
            branch = places.from_lanes(self._product("branch", h, self._part("B")))
        if "branch_scale" in self.stack.parts:
            branch = branch * places.of_lane(self._part("branch_scale"))
        return branch

    def _product(self, role: str, x: Tensor, factors: Tensor) -> Tensor:
        """``x @ factors`` by lanes, summed in float32, in the type of the factors where the processor has it."""
        if self._as_stored:
            return torch.bmm(x.to(factors.dtype), factors)
        return product(role, in_float32(x), factors.float())


@functools.cache
def multiplies(dtype: torch.dtype, device: str) -> bool:
    """Whether this is a CPU with instructions for products of a type of 16 bit; without them torch takes far longer."""
    if device != "cpu" or dtype != torch.bfloat16:
        return False
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch cannot tell
    return bool(found.get("avx512_bf16"))


class StackedPlan:
    """Stacked parts in place on the base's output, and group by group what cannot be stacked.

    Args:
        parts: they concern different tokens.
        groups: the other entries and their updates.
    """

    def __init__(self, parts: Sequence[StackedPart], groups: GroupPlan) -> None:
        self.parts = tuple(parts)
        self.groups = groups
        self.by_entry = bool(groups.groups)
        self._of_input = tuple(part for part in parts if part.scales_input)

    def run(self, module: nn.Module, base: BaseCall, x: Tensor) -> Tensor:
        """See ``Plan``."""
        tokens = seen = x.reshape(-1, x.shape[-1])
        for part in self._of_input:
            seen = part.scale_input(tokens, seen)
        seen = x if seen is tokens else seen.view_as(x)
        of_groups = [x[where] for where, _ in self.groups.groups]
        if of_groups:
            seen = self.groups.seen(x, seen, of_groups)
        y = own_memory(base(seen), seen).contiguous()
        flat = y.view(-1, y.shape[-1])
        for part in self.parts:
            part.apply(tokens, flat)
        return self.groups.finish(module, of_groups, y) if of_groups else y
