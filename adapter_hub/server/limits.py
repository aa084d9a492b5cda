"""Limits per key: requests and tokens a minute, and requests at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import RateLimited
from ..store import KeyInfo
from .rights import Caller

MINUTE = 60.0
MAX_KEPT = 1000


@dataclass
class Bucket:
    """As many units as a minute gives, filled up steadily. It may be in debt: what was used is known afterwards.

    Args:
        per_minute: how many, and how many it holds at most.
        left: now, or rather at ``at``.
    """

    per_minute: float
    left: float
    at: float

    def fill(self, now: float) -> None:
        """Let the time until ``now`` fill it."""
        self.left = min(self.per_minute, self.left + max(0.0, now - self.at) * self.per_minute / MINUTE)
        self.at = now

    def seconds_until(self, units: float) -> float:
        """How long it takes until it holds so many."""
        return max(0.0, (units - self.left) * MINUTE / self.per_minute)


@dataclass
class _Account:
    buckets: dict[str, Bucket] = field(default_factory=dict)
    running: int = 0


class Limits:
    """What each key has used. Safe from any thread; each process of a server counts by itself.

    Whatever generates for a caller goes through ``entering``, and tells its tokens to ``count`` as soon as it knows
    them: a streamed answer may count as it goes.

    Args:
        clock: seconds, from any beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._lock = threading.Lock()

    @contextmanager
    def entering(self, caller: Caller) -> Iterator[None]:
        """Hold a place for one request of a caller.

        Raises:
            RateLimited: a limit of its key is reached; nothing was counted.
        """
        key = caller.key
        if key is None:
            yield
            return
        self._enter(key)
        try:
            yield
        finally:
            with self._lock:
                self._account(key).running -= 1

    def count(self, caller: Caller, tokens: int) -> None:
        """Count tokens of a request that was let in, of its prompt or of its answer."""
        if caller.key is not None and caller.key.tokens_per_minute:
            with self._lock:
                self._account(caller.key).buckets["tokens"].left -= tokens

    def headers(self, caller: Caller) -> Mapping[str, str]:
        """What is left, in the headers that OpenAI's API has for it; none for a caller without limits."""
        if caller.key is None:
            return {}
        with self._lock:
            said: dict[str, str] = {}
            for what, bucket in self._account(caller.key).buckets.items():
                said[f"x-ratelimit-limit-{what}"] = str(int(bucket.per_minute))
                said[f"x-ratelimit-remaining-{what}"] = str(max(0, int(bucket.left)))
                said[f"x-ratelimit-reset-{what}"] = span(bucket.seconds_until(bucket.per_minute))
            return said

    def _enter(self, key: KeyInfo) -> None:
        with self._lock:
            account = self._account(key)
            if key.concurrent and account.running >= key.concurrent:
                raise _reached(key, f"{key.concurrent} requests at once", 1.0)
            for what, bucket in account.buckets.items():
                # Of tokens any that are left will do: how many it takes is not known yet.
                wait = bucket.seconds_until(1.0)
                if wait > 0.0:
                    raise _reached(key, f"{int(bucket.per_minute)} {what} a minute", wait)
            if "requests" in account.buckets:
                account.buckets["requests"].left -= 1.0
            account.running += 1

    def _account(self, key: KeyInfo) -> _Account:
        """The account of a key, as it stands now."""
        now = self._clock()
        account = self._accounts.get(key.id)
        if account is None:
            self._forget_idle(now)
            account = self._accounts[key.id] = _Account()
            for what, rate in (("requests", key.requests_per_minute), ("tokens", key.tokens_per_minute)):
                if rate:
                    account.buckets[what] = Bucket(float(rate), float(rate), now)
        for bucket in account.buckets.values():
            bucket.fill(now)
        return account

    def _forget_idle(self, now: float) -> None:
        """Whoever runs nothing and has used nothing in the last minute has nothing on account."""
        if len(self._accounts) < MAX_KEPT:
            return
        for key_id, account in list(self._accounts.items()):
            for bucket in account.buckets.values():
                bucket.fill(now)
            if not account.running and all(bucket.left >= bucket.per_minute for bucket in account.buckets.values()):
                del self._accounts[key_id]


def span(seconds: float) -> str:
    """A length of time as OpenAI's headers write it: ``120ms``, ``1.5s``, ``6m0s``."""
    if seconds < 1.0:
        return f"{round(seconds * 1000)}ms"
    if seconds < MINUTE:
        return f"{round(seconds, 1):g}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s"


def _reached(key: KeyInfo, what: str, wait: float) -> RateLimited:
    return RateLimited(
        f"the API key {key.name!r} may have {what}.", hint=f"Try again in {span(wait)}.", retry_after=wait
    )
