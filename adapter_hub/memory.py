"""Where the bytes are."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .store import TierReport


@dataclass(frozen=True)
class MemoryReport:
    """Bytes held.

    Args:
        base_weights: the frozen base's weights as stored.
        base_constants: its block scales.
        shared: device bytes of tensors that several sites or adapters use, each counted once.
        stacked: device bytes of copies that lie side by side for mixed batches; ``stack_bytes`` limits them.
        adapters: further device bytes of each resident adapter; adapters of equal content share theirs.
        host: bytes of each adapter that host memory keeps ready; those of a CPU's resident adapters are not among them.
        merged: device bytes of each adapter's merged weights; those of ``base`` are the dequantised base.
        tiers: disk, host, device and merged: bytes, hits, misses, loads and evictions of each.
        process: resident set of this process, as the operating system counts it.
        device: bytes that torch holds on the CUDA device, 0 on a CPU.
    """

    base_weights: int
    base_constants: int
    shared: int
    stacked: int
    adapters: Mapping[str, int]
    host: Mapping[str, int]
    merged: Mapping[str, int]
    tiers: tuple[TierReport, ...]
    process: int
    device: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def process_bytes() -> int:
    """Resident set of this process; 0 where the system does not tell."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return 0
    return int(status.read_text().split()[1]) * 4096


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that there is no memory left: Python's own, torch's on a GPU, or torch's on a CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def device_bytes(device: torch.device) -> int:
    """Bytes that torch holds on a CUDA device, 0 on a CPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def give_back(device: torch.device) -> None:
    """Return freed memory to the system: allocators keep it for later, where nobody else can use it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
