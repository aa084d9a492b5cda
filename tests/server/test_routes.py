"""The OpenAI routes on a tiny base: fields, defaults, streams that end early, bodies that are nothing of the kind."""

from __future__ import annotations

import json
import socket

import httpx
import openai
import pytest

from adapter_hub import AdapterHub, Settings
from adapter_hub.engine.paged import PagedBatch
from adapter_hub.errors import RequestError

from ..until import SECONDS, until
from .conftest import serving

CHAT = [{"role": "user", "content": "hi"}]
JSON = {"content-type": "application/json"}
MANY = {"max_tokens": 200, "ignore_eos": True}


@pytest.fixture(scope="module")
def hub(bases):
    with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", settings=Settings()) as hub:
        yield hub


@pytest.fixture(scope="module")
def client(hub):
    with serving(hub) as served, httpx.Client(base_url=f"{served.url}/v1", timeout=SECONDS) as client:
        yield client


@pytest.fixture
def submitted(hub, monkeypatch):
    """The generations that requests submit, and the fields with which they do."""
    found, submit = [], hub.submit

    def watched(prompt, **given):
        found.append((submit(prompt, **given), given))
        return found[-1][0]

    monkeypatch.setattr(hub, "submit", watched)
    return found


def _post(client, route="chat/completions", **given):
    prompt = {"messages": CHAT} if route == "chat/completions" else {"prompt": "hi"}
    return client.post(route, json={"model": "base", **prompt, "max_tokens": 2, **given})


UNSUPPORTED = {
    "tools": [{"type": "function"}],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "functions": [{}],
    "function_call": "auto",
    "modalities": ["text", "audio"],
    "audio": {},
    "prediction": {},
    "reasoning_effort": "low",
    "verbosity": "low",
    "web_search_options": {},
    "prompt_cache_key": "x",
    "store": True,
    "metadata": {"a": "b"},
    "service_tier": "flex",
    "length_penalty": 1.0,
}


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_what_is_not_supported_is_refused_by_its_name(client, field):
    answer = _post(client, **{field: UNSUPPORTED[field]})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error == {
        "message": f"{field} is not supported here.",
        "type": "invalid_request_error",
        "param": field,
        "code": "unsupported_field",
    }


@pytest.mark.parametrize(("field", "value"), [("echo", True), ("best_of", 2), ("suffix", "x"), ("messages", CHAT)])
def test_plain_completions_refuse_their_own(client, field, value):
    error = _post(client, "completions", **{field: value}).json()["error"]
    assert (error["param"], error["code"]) == (field, "unsupported_field")


def test_what_clients_send_by_default_is_no_reason_to_refuse(client):
    nothing = dict.fromkeys(UNSUPPORTED.keys() - {"length_penalty"})
    usual = {"n": 1, "tools": [], "tool_choice": "none", "store": False, "service_tier": "auto", "modalities": ["text"]}
    kept = {"role": "assistant", "content": "so", "refusal": None, "tool_calls": None, "annotations": [], "audio": None}
    answer = _post(client, **{**nothing, **usual}, user="someone", messages=[*CHAT, kept, *CHAT])
    assert answer.status_code == 200, answer.text
    assert _post(client, "completions", echo=False, best_of=1, suffix=None, logprobs=None).status_code == 200


@pytest.mark.parametrize(
    ("given", "param", "said"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "'system'"),
        ({"messages": [{"role": "user", "content": "x", "name": "bob"}]}, "messages.0.name", "not supported"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content",
            "'image_url'",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content", "part 0"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content", "string"),
        ({"temperature": "1"}, "temperature", "number"),
        ({"max_tokens": 0}, "max_tokens", "1"),
        ({"max_tokens": True}, "max_tokens", "integer"),
        ({"stop": [""]}, "stop", "not empty"),
        ({"seed": 2**70}, "seed", ""),
        ({"logit_bias": {"x": 1}}, "logit_bias.x.[key]", ""),
        ({"response_format": {"type": "xml"}}, "response_format", "json_schema"),
        ({"top_logprobs": 2}, "body", "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "body", "stream_options"),
        ({"max_completion_tokens": 3}, "body", "max_completion_tokens"),
        ({"regex": "a", "response_format": {"type": "json_object"}}, "body", "regex"),
        ({"n": 1000}, "n", "128"),
    ],
    ids=str,
)
def test_values_that_cannot_be_are_refused_by_field(client, given, param, said):
    answer = _post(client, **given)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (
        400,
        param,
        "unsupported_field" if "supported" in said else "invalid_value",
    )
    assert said in error["message"]


def test_prompts_are_texts_or_tokens_and_too_many_are_refused(client):
    for prompt in ("hi", ["hi", "ho"], [5, 6], [[5], [6, 7]]):
        assert _post(client, "completions", prompt=prompt).status_code == 200
    for prompt in (["hi", 5], [], [[]], [True], {"a": 1}, None, [[5], "x"]):
        assert _post(client, "completions", prompt=prompt).json()["error"]["param"] == "prompt"
    for prompt, said in (("", "no tokens"), ([10**6], "token 1000000"), ([-1], "token -1"), ("\ud800", "Unicode")):
        body = json.dumps({"model": "base", "prompt": prompt})
        answer = client.post("completions", content=body, headers=JSON)
        assert (answer.status_code, said in answer.json()["error"]["message"]) == (400, True)
    assert "completions" in _post(client, "completions", prompt=["x"] * 40, n=100).json()["error"]["message"]


def test_parts_are_joined_and_developers_are_the_system(client, hub, submitted):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    _post(client, messages=[{"role": "developer", "content": "be"}, {"role": "user", "content": parts}])
    turns = [{"role": "system", "content": "be"}, {"role": "user", "content": "a\nb"}]
    assert submitted[0][0].row.ids == hub.encode(turns)


def test_lengths_and_temperature_that_nobody_says_are_openais(client, hub, submitted):
    _post(client, max_tokens=None)
    _post(client, "completions", max_tokens=None)
    chat, text = (generation.sampling for generation, _ in submitted)
    assert (chat.max_new_tokens, text.max_new_tokens) == (256 - len(hub.encode(CHAT)), 16)
    assert (chat.temperature, text.temperature) == (1.0, 1.0)


def test_an_adapters_defaults_hold_where_the_request_says_nothing(client, hub, folders, submitted):
    hub.register("sql", folders[0])
    defaults = {"system_prompt": "rule", "temperature": 0.0, "max_new_tokens": 3, "stop": ("q",)}
    hub.set_defaults("sql", **defaults)
    own = [{"role": "system", "content": "own"}, *CHAT]
    _post(client, model="sql", max_tokens=None)
    _post(client, model="sql", temperature=0.5, stop="x", messages=own)
    _post(client, "completions", model="sql")
    first, second, plain = (generation for generation, _ in submitted)
    assert first.row.ids == hub.encode([{"role": "system", "content": "rule"}, *CHAT])
    assert (first.sampling.temperature, first.sampling.max_new_tokens, first.sampling.stop) == (0.0, 3, ("q",))
    assert second.row.ids == hub.encode(own)
    assert (second.sampling.temperature, second.sampling.max_new_tokens, second.sampling.stop) == (0.5, 2, ("x",))
    assert plain.row.ids == hub.encode("hi")
    assert plain.sampling.temperature == 0.0


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_goes_away_ends_its_generations(client, hub, submitted, streamed, gate):
    body = json.dumps({"model": "base", "messages": CHAT, **MANY, "n": 3, "stream": streamed}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    with gate.shut(after=9):
        with socket.create_connection((client.base_url.host, client.base_url.port), SECONDS) as gone:
            gone.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + body)
            until(lambda: len(submitted) == 3)
            if streamed:
                assert gone.recv(1000).startswith(b"HTTP/1.1 200")
        until(lambda: all(generation.is_cancelled for generation, _ in submitted))
    assert [generation.result(SECONDS).finish_reason for generation, _ in submitted] == ["cancelled"] * 3
    assert hub.load().active == hub.load().waiting == 0


def test_a_failure_in_mid_stream_is_an_event_and_the_end(client, monkeypatch):
    step, count = PagedBatch._forward, iter(range(100))

    def fails(*given):
        if next(count) > 3:
            raise RuntimeError("wires crossed")
        return step(*given)

    monkeypatch.setattr(PagedBatch, "_forward", fails)
    with openai.OpenAI(base_url=str(client.base_url), api_key="none", max_retries=0) as own:
        chunks = own.chat.completions.create(model="base", messages=CHAT, stream=True, extra_body=MANY)
        seen = []
        with pytest.raises(openai.APIError, match="wires crossed"):
            seen.extend(iter(chunks))
    count = iter(range(100))
    lines = _post(client, stream=True, **MANY).text.strip().split("\n\n")
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "step_failed"
    assert "data: [DONE]" not in lines


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [(RuntimeError("wires crossed"), 500, "step_failed"), (RequestError("regex: too much."), 400, "request_error")],
)
def test_a_failure_before_the_first_byte_has_a_status(client, monkeypatch, failure, status, code):
    def broken(*_):
        raise failure

    monkeypatch.setattr(PagedBatch, "_forward", broken)
    answer = _post(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_full_house_turns_requests_away_and_says_when_to_come_back(bases):
    settings = Settings(max_waiting=0)
    with (
        AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", settings=settings) as full,
        serving(full) as served,
    ):
        answer = httpx.post(f"{served.url}/v1/completions", json={"model": "base", "prompt": "x"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "overloaded"


BODIES = {
    "nothing": b"",
    "no json": b"{",
    "no object": b"[]",
    "null": b"null",
    "no utf-8": b'{"model": "\xff\xfe"}',
    "nul bytes": b"\x00" * 1000,
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000,
    "long number": b'{"model": "base", "prompt": "x", "seed": ' + b"9" * 10_000 + b"}",
    "no number": b'{"model": "base", "prompt": "x", "temperature": NaN}',
    "infinity": b'{"model": "base", "prompt": "x", "temperature": Infinity}',
    "long prompt": json.dumps({"model": "base", "prompt": "x" * 2_000_000}).encode(),
    "many prompts": json.dumps({"model": "base", "prompt": ["x"] * 100_000}).encode(),
    "many tokens": json.dumps({"model": "base", "prompt": [5] * 300_000}).encode(),
    "long model": json.dumps({"model": "m" * 1_000_000, "prompt": "x"}).encode(),
    "long sum": json.dumps({"model": "+".join(f"a{k}*0.1" for k in range(500)), "prompt": "x"}).encode(),
    "surrogate": b'{"model": "\\ud800", "prompt": "x"}',
    "many stops": json.dumps({"model": "base", "prompt": "x", "stop": ["y"] * 1000}).encode(),
    "many biases": json.dumps({"model": "base", "prompt": "x", "logit_bias": dict.fromkeys(map(str, range(5000)), 1)}),
    "unknown fields": json.dumps({"model": "base", "prompt": "x", **dict.fromkeys(map(str, range(5000)), 1)}),
}


@pytest.mark.parametrize("route", ["chat/completions", "completions"])
@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_nothing_of_the_kind_are_refused_and_harm_nobody(client, name, route):
    answer = client.post(route, content=BODIES[name], headers=JSON)
    assert 400 <= answer.status_code < 500, answer.text[:200]
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert len(error["message"]) < 3000
    assert _post(client, route).status_code == 200


def test_a_body_that_is_no_json_and_a_route_that_is_none_are_said_to_be_that(client):
    broken = client.post("chat/completions", content=b'{"model": oops}', headers=JSON)
    error = broken.json()["error"]
    assert (broken.status_code, error["code"], error["param"]) == (400, "invalid_json", None)
    assert "the body is no JSON" in error["message"]
    assert "at character 10" in error["message"]
    untold = client.post("chat/completions", content=b'{"model": "base"}', headers={"content-type": "text/plain"})
    for answer in (untold, client.post("chat/completions", content=b"[]", headers=JSON), client.post("completions")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json"), answer.text
        assert "content-type: application/json" in answer.json()["error"]["message"]
    for method, path, status, code in (
        ("GET", "chat", 404, "not_found"),
        ("GET", "chat/completions", 405, "method_not_allowed"),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert f"no route {method} /v1/{path}. GET /openapi.json" in answer.json()["error"]["message"]


def test_models_are_told_without_paths_and_unknown_ones_without_names(client, hub, folders):
    hub.register("sql", folders[0])
    listed = client.get("models").json()
    assert [model["id"] for model in listed["data"]] == ["base", "sql"]
    assert str(folders[0].parent) not in json.dumps(listed)
    for name in ("nope", "sql@7", "sql:no", "sql*2", "no*2"):
        answer = client.get(f"models/{name}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert answer.json()["error"]["message"].startswith(f"there is no model '{name}'")
