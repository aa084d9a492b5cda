"""The processor's cores: how many a thread computes with, and the helping threads that it keeps for that.

Torch computes with OpenMP, which gives each thread that computes helpers of its own and keeps them. Once there are
more such threads than cores, GNU's lets nobody's helpers wait actively for work any more, and each operation pays
for waking them: a step of the engine took half as long again only because the thread that had loaded the model still
had its helpers. Hence both functions (docs/decisions/0009-helping-threads.md).

They do nothing where torch was built without OpenMP 5.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from contextlib import suppress

import torch

SOFT = 1  # OpenMP's omp_pause_soft


def release() -> None:
    """End the helpers of the calling thread, which has computed and hands over, or waits.

    Its next large operation starts new ones, which takes a tenth of a millisecond.
    """
    pause = _openmp("omp_pause_resource_all")
    if pause is not None:
        pause(SOFT)


def use_one() -> None:
    """Compute with the calling thread alone from now on: what it does is short, and others compute meanwhile."""
    torch.get_num_threads()  # torch sets it as soon as it is asked for the first time
    limit = _openmp("omp_set_num_threads")
    if limit is not None:
        limit(1)


@functools.cache
def _openmp(name: str) -> Callable[[int], int] | None:
    # Looked up at the first call, when torch has long brought its OpenMP into the process.
    with suppress(AttributeError, OSError, TypeError):
        found: Callable[[int], int] = getattr(ctypes.CDLL(None), name)
        return found
    return None
