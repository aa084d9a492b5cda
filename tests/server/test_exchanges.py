"""Ids, log lines and unexpected errors of requests; what a client sends never writes the log's lines."""

from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest

from adapter_hub.config import ServerSettings
from adapter_hub.server.exchange import Exchange, current, id_of, watch
from adapter_hub.server.logs import JsonLines, TextLines, facts_of, log_exchange, open_log

from .told import ask, told_app

PROMPT = "the words of a customer"


pytestmark = pytest.mark.usefixtures("logging_kept")


@pytest.fixture
def log():
    """Where a test may have the log written."""
    return io.StringIO()


def lines_of(log: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_an_id_is_taken_or_made_and_comes_back_on_every_answer(tiny_hub):
    app = told_app(tiny_hub)

    async def do(client):
        given = [await client.get(path, headers={"x-request-id": "me-7"}) for path in ("/health", "/no", "/told/fail")]
        made = [await client.get("/health", headers=headers) for headers in ({}, {"x-request-id": "a b"})]
        return given, made

    given, made = ask(app, do)
    assert [answer.status_code for answer in given] == [200, 404, 500]
    assert [answer.headers.get_list("x-request-id") for answer in given] == [["me-7"]] * 3
    ids = [answer.headers["x-request-id"] for answer in made]
    assert len({*ids}) == 2
    assert "a b" not in ids


@pytest.mark.parametrize("given", ["", "x" * 129, "a\nb", "ä", "a b", None])
def test_what_could_spoil_a_log_is_no_id(given):
    assert id_of(given) != given
    assert len(id_of(given)) == 32


def test_an_unexpected_error_is_answered_without_its_words_and_logged_with_them(tiny_hub, log):
    open_log(ServerSettings(log_format="json"), to=log)
    answer = ask(told_app(tiny_hub), lambda client: client.get("/told/fail", headers={"x-request-id": "f1"}))
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    failed, line = lines_of(log)
    assert "the secret of the route" in failed["exception"]
    assert failed["request_id"] == line["request_id"] == "f1"
    assert (line["status"], line["error"], line["route"]) == (500, "ZeroDivisionError", "/told/fail")


def test_a_line_a_request_says_who_asked_whom_for_how_much_and_no_text(tiny_hub, log):
    open_log(ServerSettings(log_format="json"), to=log)

    async def do(client):
        await client.post("/told/say", params={"model": "a", "new": 4, "n": 2}, content=PROMPT)
        await client.get("/health")
        return await client.post("/told/say", params={"model": "nobody"}, content=PROMPT)

    assert ask(told_app(tiny_hub), do).status_code == 404
    said, refused = lines_of(log)  # probes have none
    assert said["status"] == 200
    assert (said["key"], said["model"], said["adapter"], said["route"]) == ("local", "a", "a@1", "/told/say")
    assert (said["completion_tokens"], said["finish_reasons"]) == (8, ["length", "length"])
    assert said["prompt_tokens"] == len(tiny_hub.tokenizer(PROMPT)["input_ids"])
    assert 0 <= said["queued_seconds"] <= said["first_token_seconds"] <= said["seconds"]
    assert (refused["status"], refused["key"], refused["model"]) == (404, "local", "nobody")
    assert "adapter" not in refused
    assert "customer" not in log.getvalue()


def test_texts_are_logged_where_that_is_asked_for(tiny_hub, log):
    open_log(ServerSettings(log_format="json"), to=log)
    app = told_app(tiny_hub, log_prompts=True)
    answer = ask(app, lambda client: client.post("/told/say", params={"model": "a"}, content=PROMPT))
    (line,) = lines_of(log)
    assert line["prompt"] == tiny_hub.tokenizer.decode(tiny_hub.tokenizer(PROMPT)["input_ids"])
    assert line["answers"] == answer.json()


def test_a_text_line_is_one_line_whatever_a_client_writes(caplog):
    caplog.set_level(logging.DEBUG, "adapter_hub.request")
    exchange = Exchange("id", "GET\n", "/a\nFAKE LINE", model="m\r\nFAKE" + "x" * 500, status=200)
    log_exchange(exchange)
    (record,) = caplog.records
    line = TextLines().format(record)
    assert len(line.splitlines()) == 1
    assert len(line) < 600
    assert json.loads(JsonLines().format(record))["model"] == facts_of(exchange)["model"]


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(tiny_hub, log):
    open_log(ServerSettings(log_format="json"), to=log)
    messages = iter([{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}])

    async def receive():
        return next(messages)

    async def send(message):
        pytest.fail(f"nobody is there to read {message}")

    scope = {"type": "http", "method": "POST", "path": "/told/read", "raw_path": b"/told/read", "headers": []}
    asyncio.run(told_app(tiny_hub)({**scope, "query_string": b"", "root_path": "", "client": None}, receive, send))
    (line,) = lines_of(log)
    assert line["client_gone"]
    assert "error" not in line
    assert "status" not in line


def test_outside_of_an_exchange_nothing_is_watched(tiny_hub):
    assert current() is None
    generation = tiny_hub.submit("a", adapter=None, max_new_tokens=1)
    watch(generation)
    assert generation.result().completion_tokens == 1


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("/told/lack", None, "there is no such thing here"),
        ("/told/nothing", "not_found", "there is no route GET /told/nothing."),
        ("/told/read", "method_not_allowed", "there is no route GET /told/read."),
    ],
)
def test_a_route_that_is_not_there_differs_from_what_a_route_does_not_find(tiny_hub, path, code, message):
    error = ask(told_app(tiny_hub), lambda client: client.get(path)).json()["error"]
    assert error["code"] == code
    assert error["message"].startswith(message)
