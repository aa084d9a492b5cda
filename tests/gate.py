"""A gate before the engine's forwards: while it is shut, no request gets further."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from adapter_hub.engine.paged import PagedBatch

from .until import SECONDS

ENGINE = "adapter-hub-engine"


class Gate:
    """Holds requests where they are, however fast the engine or slow the test.

    Args:
        monkeypatch: takes it away after the test.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = threading.Event()
        self._open.set()
        self._left = 0
        forward = PagedBatch._forward

        def gated(batch, running):
            if threading.current_thread().name == ENGINE:  # whoever starts one proves the model by forwards too
                if self._left:
                    self._left -= 1
                else:
                    assert self._open.wait(SECONDS), "nobody opened the gate"
            return forward(batch, running)

        monkeypatch.setattr(PagedBatch, "_forward", gated)

    @contextmanager
    def shut(self, after: int = 0) -> Iterator[None]:
        """Let so many forwards through, and then none until the block's end, or ``open``."""
        self._left = after
        self._open.clear()
        try:
            yield
        finally:
            self.open()

    def open(self) -> None:
        """Let everything through."""
        self._open.set()
