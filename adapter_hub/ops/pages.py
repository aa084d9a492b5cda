"""Memory for stacks, in huge pages where the system gives them."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from contextlib import suppress

import torch
from torch import Tensor

HUGE = 2 * 1024**2
ALIGNED = 64


def allocate(shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]], device: torch.device) -> dict[str, Tensor]:
    """Uninitialised tensors of these shapes and types, which live in one block.

    On a CPU whole huge pages of it are asked for as such: reading 625 MB of factors takes a tenth less time, writing
    them first a fraction of the page faults. What is left over lies in ordinary pages, so that nothing is wasted.
    """
    begins, end = {}, 0
    for name, (shape, dtype) in shapes.items():
        begins[name] = end
        end += -(-math.prod(shape) * dtype.itemsize // ALIGNED) * ALIGNED
    with torch.inference_mode(False):
        block = (
            _huge(end) if device.type == "cpu" and end >= HUGE else torch.empty(end, dtype=torch.uint8, device=device)
        )
        return {
            name: block[begins[name] :][: math.prod(shape) * dtype.itemsize].view(dtype).view(shape)
            for name, (shape, dtype) in shapes.items()
        }


def _huge(num_bytes: int) -> Tensor:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(num_bytes, dtype=torch.uint8)
    pages = mmap.mmap(-1, num_bytes + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    whole = torch.frombuffer(pages, dtype=torch.uint8)
    begin = -whole.data_ptr() % HUGE
    with suppress(OSError):  # a kernel without them
        pages.madvise(mmap.MADV_HUGEPAGE, begin, num_bytes // HUGE * HUGE)
    return whole[begin : begin + num_bytes]
