"""Where the bytes are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class MemoryReport:
    """Bytes held.

    Args:
        base_weights: the frozen base's weights as stored.
        base_constants: its block scales.
        shared: device bytes of tensors that several sites or adapters use, each counted once.
        stacked: device bytes of copies that lie side by side for mixed batches; ``stack_bytes`` limits them.
        adapters: further device bytes of each resident adapter; adapters of equal content share theirs.
        process: resident set of this process, as the operating system counts it.
        device: bytes that torch holds on the CUDA device, 0 on a CPU.
    """

    base_weights: int
    base_constants: int
    shared: int
    stacked: int
    adapters: Mapping[str, int]
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


def device_bytes(device: torch.device) -> int:
    """Bytes that torch holds on a CUDA device, 0 on a CPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
