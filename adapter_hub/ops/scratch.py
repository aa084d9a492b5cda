"""Memory for intermediate results, used again from call to call."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

MAX_KEPT = 64
MAX_NUMEL = 1 << 20


class Scratch(threading.local):
    """Float32 tensors that one thread uses again and again: what it got for a role is overwritten by the next.

    On a CPU the allocator gives blocks of this size back to the system and asks for them anew: of 45 ms that the
    branches of a decoding step took, page faults were 15.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def tensor(self, role: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """An uninitialised tensor [*shape]."""
        kept = self._kept.get((role, shape))
        if kept is not None and kept.device == device:
            return kept
        with torch.inference_mode(False):
            made = torch.empty(shape, dtype=torch.float32, device=device)
        # Large ones are rare (prefill), and CUDA's allocator keeps its blocks itself.
        if device.type == "cpu" and made.numel() <= MAX_NUMEL:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[role, shape] = made
        return made


SCRATCH = Scratch()


def in_float32(x: Tensor) -> Tensor:
    """``x`` in float32, in scratch memory where it has another type."""
    if x.dtype == torch.float32 or x.requires_grad:
        return x.float()
    return SCRATCH.tensor("x", x.shape, x.device).copy_(x)


def product(role: str, x: Tensor, factors: Tensor) -> Tensor:
    """``x @ factors`` by lanes, in scratch memory: [lanes, width, n] x [lanes, n, m] -> [lanes, width, m]."""
    if x.requires_grad:  # somebody differentiates through the base: each result is kept
        return torch.bmm(x, factors)
    lanes, width, _ = x.shape
    return torch.bmm(x, factors, out=SCRATCH.tensor(role, (lanes, width, factors.shape[2]), x.device))
