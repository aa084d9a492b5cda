"""What a cache keeps of one value."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(eq=False, slots=True)
class Entry(Generic[K, V]):
    """A value of the cache. To be read between ``lease`` and ``release``; everything else is the cache's own.

    ``firm`` says that its bytes are counted among those that nobody can have, ``leaving`` that somebody copies it
    to the tier below, ``dropped`` that no key leads to it any more.
    """

    key: K
    value: V
    num_bytes: int
    pinned: bool
    expendable: bool
    tier: int = 0
    uses: int = 0
    firm: bool = True
    leaving: bool = False
    dropped: bool = False


@dataclass(eq=False, slots=True)
class Making(Generic[K, V]):
    """Somebody makes a value, or copies it up; ``waiting`` others want the same one."""

    expendable: bool
    pinned: bool = False
    waiting: int = 0
    reserved: int | None = None
    dropped: bool = False
    done: bool = False
    entry: Entry[K, V] | None = None
    error: BaseException | None = None
