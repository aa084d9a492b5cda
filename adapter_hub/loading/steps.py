"""The steps of a load, told one by one to whoever watches: what was found, or after which step it failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# In their order. A load that fails has told those before the one that it failed at.
STEPS = {
    "source": "its files are here",
    "format": "a format recognises them",
    "variant": "its type is known",
    "base": "it was trained on this base",
    "sites": "its scale rule is known, every site exists and every shape fits",
    "tensors": "every tensor of the file is used",
    "values": "every value is finite",
    "content": "its content is hashed",
}
Tell = Callable[[str, str], None]
_TELL: ContextVar[Tell | None] = ContextVar("adapter_hub_load_steps", default=None)


@contextmanager
def watching(tell: Tell) -> Iterator[None]:
    """Call ``tell(step, found)`` for each step that a load in this block, in this thread, has passed.

    Args:
        tell: gets a key of ``STEPS`` and, in a few words, what was found.
    """
    token = _TELL.set(tell)
    try:
        yield
    finally:
        _TELL.reset(token)


def passed(step: str, found: str) -> None:
    """A step has been passed."""
    tell = _TELL.get()
    if tell is not None:
        tell(step, found)
