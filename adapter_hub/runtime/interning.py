"""Tensors that several adapters have in common are kept once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SAMPLE = 16


@dataclass(eq=False)
class Interned:
    """One kept tensor and how many slots use it."""

    tensor: Tensor
    key: tuple[object, ...]
    uses: int = 0


class InternPool:
    """Keeps equal tensors once, for as long as anybody uses them. Called by one thread at a time.

    Equality is that of all values: a sample of them only finds the candidates.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], list[Interned]] = {}

    def take(self, tensor: Tensor) -> Interned:
        """The kept tensor that equals this one, which becomes it if there is none. Counts one use."""
        flat = tensor.reshape(-1)
        step = max(1, flat.numel() // _SAMPLE)
        key = (tuple(tensor.shape), tensor.dtype, tensor.device, tuple(flat[::step].tolist()))
        candidates = self._kept.setdefault(key, [])
        found = next((kept for kept in candidates if torch.equal(kept.tensor, tensor)), None)
        if found is None:
            found = Interned(tensor, key)
            candidates.append(found)
        found.uses += 1
        return found

    def give_back(self, interned: Interned) -> None:
        """End one use; the last one lets the tensor go."""
        interned.uses -= 1
        if not interned.uses:
            candidates = self._kept[interned.key]
            candidates.remove(interned)
            if not candidates:
                del self._kept[interned.key]

    @property
    def bytes(self) -> int:
        """Bytes of all kept tensors, each once."""
        return sum(kept.tensor.nbytes for candidates in self._kept.values() for kept in candidates)
