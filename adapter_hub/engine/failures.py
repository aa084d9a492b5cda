"""What kinds of errors a step can end with."""

from __future__ import annotations

import gc

import torch

from ..errors import StepFailed


def is_fatal(error: BaseException) -> bool:
    """Whether the device is in no state to go on."""
    return isinstance(error, torch.AcceleratorError) and not is_memory(error)


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)


def return_memory() -> None:
    """Give what is cached for later back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def step_failed(error: Exception) -> StepFailed:
    """What a request is told whose forward fails alone."""
    reason = "has not enough memory" if is_memory(error) else f"fails: {type(error).__name__}: {error}"
    failed = StepFailed(f"the forward of this request {reason}.", hint="The other requests go on.")
    failed.__cause__ = error
    return failed
