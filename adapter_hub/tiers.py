"""The tiers side by side: which adapters are on disk, in host memory, on the device and merged, and their bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping

from . import memory
from .base import BaseModel
from .runtime import AdapterBank, HostTier, MergedCache
from .store import BASE_NAME, Counters, Registry, StatusFile, TierReport


class Tiers:
    """Reports on the tiers, to the hub's user and, beside the registry's file, to other processes.

    Args:
        base: the frozen base.
        registry: the adapters on disk.
        bank: those on the device; what happens there is counted in ``device``.
        host: those in host memory.
        merged: the merged weights.
        device_limit: bytes that those on the device may take; None is any number.
    """

    def __init__(
        self,
        base: BaseModel,
        registry: Registry,
        bank: AdapterBank,
        host: HostTier,
        merged: MergedCache,
        device_limit: int | None,
    ) -> None:
        self.device = Counters()
        self._base = base
        self._registry = registry
        self._bank = bank
        self._host = host
        self._merged = merged
        self._device_limit = device_limit
        self._status = StatusFile(registry.path)

    def close(self) -> None:
        """Take back what was said to others."""
        self._status.close()

    def memory(self, adapters: Mapping[str, int], stacked: int) -> memory.MemoryReport:
        """Where the bytes are.

        Args:
            adapters: device bytes of each resident adapter, by name.
            stacked: bytes of stacked copies.
        """
        report = self._base.report()
        count, size = self._registry.totals()
        return memory.MemoryReport(
            base_weights=report.weight_bytes,
            base_constants=report.constant_bytes,
            shared=self._bank.shared_bytes,
            stacked=stacked,
            adapters=adapters,
            host=self._by_name(self._host.listing()),
            merged=self._by_name(self._merged.listing()),
            tiers=(TierReport("disk", None, size, count), *(tier for tier, _ in self._filled())),
            process=memory.process_bytes(),
            device=memory.device_bytes(self._base.device),
        )

    def fastest(self) -> dict[str, str]:
        """The fastest tier in which each adapter in memory lies, by digest; those that are not here lie on disk."""
        found = dict.fromkeys(self._host.listing(), "host")
        found.update(dict.fromkeys(self._merged.digests(), "device"))
        found.update(dict.fromkeys(self._merged.listing(0), "merged"))
        return found

    def tell(self) -> None:
        """Say to others which adapter, by its digest, is in which tier now."""
        tiers = [{**tier.as_dict(), "adapters": listing} for tier, listing in self._filled()]
        self._status.write({"base": self._base.name, "at": time.time(), "tiers": tiers})

    def _filled(self) -> list[tuple[TierReport, Mapping[str, int]]]:
        """All tiers but the disk, each with its bytes by digest."""
        device = {digest: self._bank.bytes(slot) for digest, slot in self._merged.digests().items()}
        used = sum(device.values()) + self._bank.shared_bytes
        return [
            (self._host.report(), self._host.listing()),
            (self.device.report("device", limit=self._device_limit, used=used, entries=len(device)), device),
            *((tier, self._merged.listing(k)) for k, tier in enumerate(self._merged.report())),
        ]

    def _by_name(self, listing: Mapping[str, int]) -> dict[str, int]:
        names = {digest: self._registry.names_of(digest) if digest else (BASE_NAME,) for digest in listing}
        return {name: size for digest, size in listing.items() for name in names[digest]}
