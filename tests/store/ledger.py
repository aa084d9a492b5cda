"""Blocks of bytes for a cache to hold, and a ledger that counts them wherever they lie."""

from __future__ import annotations

import threading
from collections import Counter

from adapter_hub.store import ByteCache, Tier

DEVICE, HOST = 100, 60


class Ledger:
    """Counts blocks and their bytes by tier, brings them from one to the other, or fails to when told so."""

    def __init__(self):
        self.alive, self.peak, self.blocks = Counter(), Counter(), 0
        self.failing = set()
        self.lock = threading.RLock()

    def count(self, tier, size, blocks):
        with self.lock:
            self.alive[tier] += size
            self.peak[tier] = max(self.peak[tier], self.alive[tier])
            self.blocks += blocks

    def to(self, tier):
        def bring(block):
            if tier in self.failing:
                raise MemoryError(tier)
            return Block(self, block.key, block.size, tier)

        return bring

    def make(self, key, size):
        def make(reserve):
            reserve(size)
            return Block(self, key, size, 0)

        return make


class Block:
    """A value that knows where it lies."""

    def __init__(self, ledger, key, size, tier):
        self.ledger, self.key, self.size, self.tier = ledger, key, size, tier
        ledger.count(tier, size, 1)

    def __del__(self):
        self.ledger.count(self.tier, -self.size, -1)


def cache_of(ledger, device=DEVICE, host=HOST):
    """A cache of two tiers, or of one where ``host`` is 0."""
    tiers = [Tier("device", device, "merged_bytes", ledger.to(0))]
    return ByteCache(*tiers, *([Tier("host", host, "host_bytes", ledger.to(1))] if host else []))


class Lost(Exception):
    """Raised where a value is made that does not come to be."""
