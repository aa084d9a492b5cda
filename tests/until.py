"""Waiting for what another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 120  # for what takes a moment: the machine may be busy


def until(true: Callable[[], object]) -> None:
    """Return once it is true; fail where it never comes true."""
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.002)
