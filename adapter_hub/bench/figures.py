"""What a load has shown: throughput, times with percentiles, errors; of all requests, and of each adapter's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .client import Outcome

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Spread:
    """Seconds of many requests: their mean and percentiles."""

    mean: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread | None:
        """The spread of these; None where there are none."""
        if not seconds:
            return None
        ordered = sorted(seconds)
        return cls(sum(ordered) / len(ordered), *(percentile(ordered, share) for share in PERCENTILES))


@dataclass(frozen=True)
class Share:
    """What the requests of one adapter, or all, have shown.

    Args:
        requests: how many were sent.
        failed: how many of them have no whole answer.
        prompt_tokens: read for the others.
        completion_tokens: generated for the others.
        first_token: seconds until the first text.
        per_token: seconds for each token after it.
        total: seconds until the end.
    """

    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    first_token: Spread | None
    per_token: Spread | None
    total: Spread | None


@dataclass(frozen=True)
class Figures:
    """What a load has shown.

    Args:
        seconds: from the first request to the last answer.
        requests_per_second: answered.
        tokens_per_second: generated.
        errors: how often each was met.
        all: of all requests.
        adapters: of each adapter's.
    """

    seconds: float
    requests_per_second: float
    tokens_per_second: float
    errors: Mapping[str, int]
    all: Share
    adapters: Mapping[str, Share]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which so many of a hundred lie, between two neighbours in proportion."""
    place = (len(ordered) - 1) * share / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def figures_of(outcomes: Sequence[Outcome], seconds: float) -> Figures:
    """The figures of a load that took so long."""
    by_adapter: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_adapter.setdefault(outcome.adapter, []).append(outcome)
    everything = _share(outcomes)
    return Figures(
        seconds=seconds,
        requests_per_second=(everything.requests - everything.failed) / seconds,
        tokens_per_second=everything.completion_tokens / seconds,
        errors=dict(Counter(outcome.error for outcome in outcomes if outcome.error).most_common()),
        all=everything,
        adapters={name: _share(of_it) for name, of_it in sorted(by_adapter.items())},
    )


def _share(outcomes: Sequence[Outcome]) -> Share:
    done = [outcome for outcome in outcomes if not outcome.error]
    per_token = [outcome.per_token for outcome in done]
    return Share(
        requests=len(outcomes),
        failed=len(outcomes) - len(done),
        prompt_tokens=sum(outcome.prompt_tokens for outcome in done),
        completion_tokens=sum(outcome.completion_tokens for outcome in done),
        first_token=Spread.of([outcome.first_token for outcome in done if outcome.completion_tokens]),
        per_token=Spread.of([seconds for seconds in per_token if seconds is not None]),
        total=Spread.of([outcome.seconds for outcome in done]),
    )
