"""Copies of tensors to the device."""

from __future__ import annotations

import torch
from torch import Tensor


class Transfer:
    """Sends tensors to a device; on CUDA from pinned memory and on a stream of its own, beside running forwards.

    The place of a copy comes from the caller's stream, so that it returns there when it is freed, and the
    copying stream first waits for what that stream may still read there.

    Args:
        device: where to.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._sources: list[Tensor] = []

    def send(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """The tensor on the device, in this type; not to be read before ``finish``."""
        if self._stream is None or tensor.device.type != "cpu":
            return tensor.to(self.device, dtype)
        source = tensor.to(dtype).contiguous().pin_memory()
        sent = torch.empty(source.shape, dtype=dtype, device=self.device)
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            sent.copy_(source, non_blocking=True)
        self._sources.append(source)
        return sent

    def finish(self) -> None:
        """Wait until everything that was sent is there."""
        if self._stream is not None:
            self._stream.synchronize()
        self._sources.clear()
