"""Limits per key, on a clock that the test turns."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from adapter_hub.errors import RateLimited
from adapter_hub.server.limits import MAX_KEPT, Limits, span
from adapter_hub.server.rights import Caller
from adapter_hub.store import KeyInfo


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limits(clock):
    return Limits(clock)


def caller(key_id: str = "k", **limits: int) -> Caller:
    key = KeyInfo(id=key_id, name=key_id, scopes=("infer",), created_at="2026-01-01T00:00:00+00:00", **limits)
    return Caller(key_id, frozenset({"infer"}), key=key)


def enter(limits: Limits, who: Caller) -> None:
    with limits.entering(who):
        pass


def test_requests_a_minute_come_back_one_by_one(limits, clock):
    who = caller(requests_per_minute=6)
    for _ in range(6):
        enter(limits, who)
    with pytest.raises(RateLimited, match="'k' may have 6 requests a minute") as caught:
        enter(limits, who)
    assert caught.value.retry_after == pytest.approx(10.0)
    clock.now += 9.9
    with pytest.raises(RateLimited):
        enter(limits, who)
    clock.now += 0.2
    enter(limits, who)
    clock.now += 3600
    for _ in range(6):  # and no more than a minute's worth is saved up
        enter(limits, who)
    with pytest.raises(RateLimited):
        enter(limits, who)


def test_tokens_are_counted_afterwards_and_paid_off(limits, clock):
    who = caller(tokens_per_minute=60)
    enter(limits, who)
    limits.count(who, 50)
    enter(limits, who)
    limits.count(who, 40)  # 30 in debt
    with pytest.raises(RateLimited, match="60 tokens a minute") as caught:
        enter(limits, who)
    assert caught.value.retry_after == pytest.approx(31.0)
    clock.now += 31.0
    enter(limits, who)


def test_requests_at_once_are_held_for_as_long_as_they_run(limits):
    who, other = caller(concurrent=2), caller("other", concurrent=1)

    with ExitStack() as running:
        running.enter_context(limits.entering(who))
        running.enter_context(limits.entering(who))
        with pytest.raises(RateLimited, match="2 requests at once"):
            running.enter_context(limits.entering(who))
        running.enter_context(limits.entering(other))
    with pytest.raises(KeyError), limits.entering(other):
        raise KeyError("the request failed")
    with limits.entering(who), limits.entering(who), limits.entering(other):
        pass


def test_a_refused_request_uses_nothing_up(limits):
    who = caller(requests_per_minute=5, concurrent=1)

    with limits.entering(who):
        for _ in range(20):
            with pytest.raises(RateLimited, match="at once"), limits.entering(who):
                pass
    assert limits.headers(who)["x-ratelimit-remaining-requests"] == "4"


def test_headers_are_those_of_openais_api(limits, clock):
    who = caller(requests_per_minute=60, tokens_per_minute=600)
    enter(limits, who)
    limits.count(who, 700)
    assert limits.headers(who) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "600",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m10s",
    }
    clock.now += 0.9
    assert limits.headers(who)["x-ratelimit-reset-requests"] == "100ms"
    assert limits.headers(caller("free")) == {}
    assert limits.headers(Caller("local", frozenset({"infer"}))) == {}
    assert [span(seconds) for seconds in (0, 1.5, 360)] == ["0ms", "1.5s", "6m0s"]


def test_a_caller_without_limits_has_none(limits):
    for who in (Caller("local", frozenset({"infer"})), caller()):
        for _ in range(100):
            enter(limits, who)
            limits.count(who, 10_000)


def test_accounts_of_many_idle_keys_are_let_go(limits, clock):
    debtor = caller("debtor", tokens_per_minute=1)
    enter(limits, debtor)
    limits.count(debtor, 1000)
    for k in range(3 * MAX_KEPT):
        clock.now += 0.5
        enter(limits, caller(f"k{k}", requests_per_minute=100))
    assert len(limits._accounts) <= MAX_KEPT + 1
    with pytest.raises(RateLimited):
        enter(limits, debtor)
