"""What kinds of errors a step can end with."""

from __future__ import annotations

import gc
import logging

import torch

from ..errors import AdapterHubError, EngineStopped, RequestError, StepFailed
from ..memory import is_shortage

_log = logging.getLogger(__name__)


def is_fatal(error: BaseException) -> bool:
    """Whether the device is in no state to go on."""
    return isinstance(error, torch.AcceleratorError) and not is_shortage(error)


def return_memory() -> None:
    """Give what is cached for later back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def engine_failed(error: BaseException) -> EngineStopped:
    """What everybody is told when the engine fails as a whole. Logged too: it is nobody's request alone."""
    _log.critical("the engine failed", exc_info=error)
    failed = EngineStopped(
        f"the engine failed: {type(error).__name__}: {error}.", hint="The next request starts a new one."
    )
    failed.__cause__ = error
    return failed


def step_failed(error: Exception) -> AdapterHubError:
    """What a request is told whose forward fails alone: that, or what is wrong with the request itself."""
    if isinstance(error, RequestError):
        return error
    reason = "has not enough memory" if is_shortage(error) else f"fails: {type(error).__name__}: {error}"
    failed = StepFailed(f"the forward of this request {reason}.", hint="The other requests go on.")
    failed.__cause__ = error
    return failed
