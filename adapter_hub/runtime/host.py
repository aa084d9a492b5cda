"""The host tier: adapters in host memory, read and proven, so that a slot can have them without their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import NoRoom
from ..store import ByteCache, Reserve, Tier, TierReport
from ..updates import SiteUpdate
from .wholes import Wholes


@dataclass(frozen=True, eq=False)
class HostCopy:
    """All that a slot needs of an adapter.

    Args:
        updates: by site path, proven for this base.
        shared: tensors that other adapters are likely to have too; updates may use views of them.
        voice: tokenizer and template that it brings.
        invocation: token ids from which on a row uses it; empty for all of its tokens.
    """

    updates: Mapping[str, SiteUpdate]
    shared: tuple[Tensor, ...]
    voice: Any
    invocation: tuple[int, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Bytes that its tensors keep from being freed."""
        tensors = [*self.shared, *(t for update in self.updates.values() for t in update.tensors().values())]
        blocks = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(blocks.values())

    def pinned(self) -> HostCopy:
        """The same in page-locked memory, which a GPU reads by itself."""
        wholes = Wholes(self.shared)
        copies = [_pin(whole) for whole in wholes.tensors]

        def place(tensor: Tensor) -> Tensor:
            part = wholes.part(tensor, copies)
            return _pin(tensor) if part is None else part

        updates = {path: update.map_tensors(place) for path, update in self.updates.items()}
        return HostCopy(updates, tuple(copies), self.voice, self.invocation)


class HostTier:
    """Keeps adapters by digest, within a budget of bytes. Safe from any thread.

    What has the digest that was registered is served without a look at the files: it is what was proven. Beside a
    GPU, an adapter stays here while it is on the device. On a CPU host and device are one memory: there an adapter
    is here only while it is in no slot, and is handed over without a copy.

    Args:
        limit: bytes; an adapter that does not fit is served all the same, and not kept.
        device: of the base.
    """

    def __init__(self, limit: int, device: torch.device) -> None:
        self.apart = device.type != "cpu"
        self._cache: ByteCache[str, HostCopy] = ByteCache(Tier("host", limit, "host_bytes", lambda copy: copy))

    @contextmanager
    def holding(self, digest: str, read: Callable[[], HostCopy]) -> Iterator[HostCopy]:
        """An adapter for the block, which puts it into a slot. Of several threads that ask for one, one reads it."""

        def make(reserve: Reserve) -> HostCopy:
            copy = read()
            return self._placed(copy, reserve) if self.apart else copy

        with self._cache.holding(digest, make) as copy:
            yield copy
        if not self.apart:
            self._cache.drop(digest)

    def glance(self, digest: str, read: Callable[[], HostCopy]) -> HostCopy:
        """An adapter that is wanted in a slot soon: it is kept until then, if it fits."""
        with self._cache.holding(digest, lambda reserve: self._placed(read(), reserve)) as copy:
            return copy

    def keep(self, digest: str, copy: HostCopy) -> None:
        """Take an adapter that has left its slot, if it fits."""
        with self._cache.holding(digest, lambda reserve: self._placed(copy, reserve)):
            pass

    def drop(self, digest: str) -> None:
        """Forget an adapter; whoever holds it has it to the end."""
        self._cache.drop(digest)

    def clear(self) -> None:
        """Forget all."""
        for digest in self.listing():
            self.drop(digest)

    def listing(self) -> dict[str, int]:
        """Bytes by digest, what was used longest ago first."""
        return self._cache.listing(0)

    def report(self) -> TierReport:
        """What is here, and what has come and gone."""
        return self._cache.report()[0]

    def _placed(self, copy: HostCopy, reserve: Reserve) -> HostCopy:
        with suppress(NoRoom):
            reserve(copy.num_bytes)
            return copy.pinned() if self.apart else copy
        return copy


def _pin(tensor: Tensor) -> Tensor:
    return tensor.contiguous().pin_memory()
