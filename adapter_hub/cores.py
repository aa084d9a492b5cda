"""The processor's cores: helping threads that a thread keeps after it has computed, and how it lets them go."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from contextlib import suppress

SOFT = 1  # OpenMP's omp_pause_soft


def release() -> None:
    """End the helpers that OpenMP keeps for the calling thread; its next large product starts new ones (0.1 ms).

    Torch computes with OpenMP, which gives each thread that computes helpers of its own and keeps them. Once
    there are more such threads than cores, GNU's lets no helper wait actively for work any more, anybody's, and
    each operation pays for waking them: with adapters in it a step of the engine took half as long again, only because
    the thread that had loaded the model still had its own. So who has computed and hands over, or waits, calls this.

    Nothing happens where torch was built without OpenMP 5.
    """
    pause = _pause()
    if pause is not None:
        pause(SOFT)


@functools.cache
def _pause() -> Callable[[int], int] | None:
    # Looked up at the first call, when torch has long brought its OpenMP into the process.
    with suppress(AttributeError, OSError, TypeError):
        found: Callable[[int], int] = ctypes.CDLL(None).omp_pause_resource_all
        return found
    return None
