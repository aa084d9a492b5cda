"""What Prometheus reads: every number of it against what was asked, and a bound on how many series there are."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from adapter_hub.server.metrics import AdapterNames

from .told import client_of, told_app


def read(text: str, of=parse) -> dict[tuple[str, ...], float]:
    """Samples by name and label values."""
    return {(s.name, *s.labels.values()): s.value for family in of(text) for s in family.samples}


def test_numbers_are_those_of_the_requests(tiny_hub):
    async def run():
        app = told_app(tiny_hub)
        async with client_of(app) as client:
            for model, new in (("a", 3), ("a@1", 4), ("b", 2), ("base", 5), ("a*0.5+b*0.5", 2)):
                answer = await client.post("/told/say", params={"model": model, "new": new}, content=b"abc")
                assert answer.status_code == 200
            await client.get("/nowhere/at-all")
            await client.get("/told/fail")
            plain = await client.get("/metrics")
            open_metrics = await client.get("/metrics", headers={"accept": "application/openmetrics-text"})
            return plain, open_metrics

    plain, open_metrics = asyncio.run(run())
    found = read(plain.text)
    base, prompt = tiny_hub.base.name, len(tiny_hub.tokenizer("abc")["input_ids"])
    expected = {
        ("adapter_hub_request_success_total", "length", base): 5,
        ("adapter_hub_generation_tokens_total", base): 16,
        ("adapter_hub_prompt_tokens_total", base): 5 * prompt,
        ("adapter_hub_adapter_requests_total", "a", "length"): 2,
        ("adapter_hub_adapter_generation_tokens_total", "a"): 7,
        ("adapter_hub_adapter_generation_tokens_total", "b"): 2,
        ("adapter_hub_adapter_generation_tokens_total", "base"): 5,
        ("adapter_hub_adapter_generation_tokens_total", "sum"): 2,
        ("adapter_hub_time_to_first_token_seconds_count", base): 5,
        ("adapter_hub_time_per_output_token_seconds_count", base): 5,
        ("adapter_hub_e2e_request_latency_seconds_count", base): 5,
        ("adapter_hub_request_queue_time_seconds_count", base): 5,
        ("adapter_hub_request_prompt_tokens_sum", base): 5 * prompt,
        ("adapter_hub_request_generation_tokens_sum", base): 16,
        ("adapter_hub_num_requests_running", base): 0,
        ("adapter_hub_num_requests_waiting", base): 0,
        ("adapter_hub_http_requests_total", "POST", "/told/say", "200"): 5,
        ("adapter_hub_http_requests_total", "GET", "other", "404"): 1,
        ("adapter_hub_http_requests_total", "GET", "/told/fail", "500"): 1,
        ("adapter_hub_http_request_duration_seconds_count", "POST", "/told/say"): 5,
        ("adapter_hub_adapters_resident",): len(tiny_hub.memory().adapters),
        ("adapter_hub_tier_entries", "disk"): 2,
    }
    assert {key: found.get(key) for key in expected} == expected
    memory = tiny_hub.memory()
    assert found["adapter_hub_adapter_resident_bytes", "a"] == memory.adapters["a@1"] > 0
    for tier in memory.tiers:
        assert found["adapter_hub_tier_used_bytes", tier.name] == tier.used
        for name in ("hits", "misses", "loads", "evictions"):
            assert found[f"adapter_hub_tier_{name}_total", tier.name] == getattr(tier, name)
    assert found["adapter_hub_engine_steps_total", base] == tiny_hub.load().steps
    assert found["process_resident_memory_bytes",] > 1e6
    assert read(open_metrics.text, parse_openmetrics).keys() >= expected.keys()


def test_what_is_cancelled_or_fails_is_counted_as_that(tiny_hub, gate):
    from adapter_hub.errors import StepFailed

    app = told_app(tiny_hub)
    metrics = app.state.operations.metrics
    with gate.shut(after=3):
        generation = tiny_hub.submit("a", adapter=None, max_new_tokens=200, ignore_eos=True)
        generation.cancel()
    generation.wait()
    metrics.generated(generation)
    failed = tiny_hub.submit("a", adapter=None, max_new_tokens=1)
    failed.wait()
    failed.fail(StepFailed("it failed."))
    metrics.generated(failed)
    base = tiny_hub.base.name
    value = metrics.registry.get_sample_value
    assert value("adapter_hub_request_success_total", {"model_name": base, "finished_reason": "cancelled"}) == 1
    assert value("adapter_hub_request_failures_total", {"model_name": base, "error": "StepFailed"}) == 1


def test_they_ask_for_a_key_once_there_is_one(tiny_hub):
    async def statuses(**settings):
        async with client_of(told_app(tiny_hub, api_key="k", **settings)) as client:
            shown = {"authorization": "Bearer k"}
            return [(await client.get("/metrics", headers=headers)).status_code for headers in ({}, shown)]

    assert asyncio.run(statuses()) == [401, 200]
    assert asyncio.run(statuses(metrics_open=True)) == [200, 200]


def test_a_key_for_some_adapters_is_not_told_of_the_others(open_hub):
    hub = open_hub()
    _, some = hub.registry.keys.create("some", ["admin"], ["sql-*"])
    _, every = hub.registry.keys.create("every", ["admin"])

    async def answers():
        async with client_of(told_app(hub)) as client:
            shown = [{"authorization": f"Bearer {secret}"} for secret in (some, every)]
            return [await client.get("/metrics", headers=headers) for headers in shown]

    refused, told = asyncio.run(answers())
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_permissions")
    assert "the API key 'some' is for some" in refused.json()["error"]["message"]
    assert told.status_code == 200


def test_names_beyond_the_bound_share_one():
    names = AdapterNames(2)
    keys = ["a@1", "b@1", "c@1", "a@2", "d@1", "a@1*0.5+b@1*0.5", None]
    assert [names.label(key) for key in keys] == ["a", "b", "other", "a", "other", "sum", "base"]


@pytest.mark.parametrize("method", ["BREW", "get"])
def test_a_made_up_method_makes_no_series(tiny_hub, method):
    async def run():
        app = told_app(tiny_hub)
        async with client_of(app) as client:
            await client.request(method, "/health")
            return read((await client.get("/metrics")).text)

    found = asyncio.run(run())
    assert {key[1] for key in found if key[0] == "adapter_hub_http_requests_total"} <= {"GET", "other"}
