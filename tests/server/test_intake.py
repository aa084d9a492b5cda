"""Headers and bodies beyond the limits are refused before they are read."""

from __future__ import annotations

import asyncio
import json

from openai.types import Completion

from adapter_hub import Settings

from .told import ask, told_app

LIMIT = 1000


def asked(hub, content, headers=None, **settings):
    settings = {"max_body_bytes": LIMIT, "max_header_bytes": 2000, **settings}
    app = told_app(hub, **settings)
    return ask(app, lambda client: client.post("/told/read", content=content, headers=headers))


async def pieces(count: int, read: list[int]):
    for k in range(count):
        read.append(k)
        yield b"x" * 100


def test_a_body_of_the_limit_is_read(tiny_hub):
    assert asked(tiny_hub, b"x" * LIMIT).json() == LIMIT
    assert asked(tiny_hub, pieces(10, [])).json() == LIMIT


def test_a_body_that_says_it_is_larger_is_refused_unread(tiny_hub):
    read: list[int] = []
    answer = asked(tiny_hub, pieces(3, read), {"content-length": str(LIMIT + 1)})
    assert (answer.status_code, read) == (413, [])
    assert answer.json()["error"]["code"] == "body_too_large"
    assert str(LIMIT) in answer.json()["error"]["message"]


def test_a_body_in_chunks_is_refused_where_it_passes_the_limit(tiny_hub):
    read: list[int] = []
    answer = asked(tiny_hub, pieces(1000, read))
    assert answer.status_code == 413
    assert len(read) == 11


def test_headers_beyond_the_limit_are_refused(tiny_hub):
    answer = asked(tiny_hub, b"", {"x-long": "y" * 2000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (431, "headers_too_large")


def test_a_body_that_does_not_come_to_its_end_is_refused(tiny_hub):
    async def stuck():
        yield b"x"
        await asyncio.Event().wait()

    answer = asked(tiny_hub, stuck(), read_timeout=0.05)
    assert answer.status_code == 408
    assert "0.05 seconds" in answer.json()["error"]["message"]


def completed(hub, prompt, stream=False, **settings):
    asked = {"model": "base", "prompt": prompt, "max_tokens": 230, "temperature": 0, "logit_bias": {"2": -100}}
    asked["stream"] = stream
    return ask(told_app(hub, **settings), lambda client: client.post("/v1/completions", json=asked))


def test_a_prompt_of_too_many_tokens_is_refused_before_it_runs(open_hub):
    hub = open_hub(settings=Settings(max_prompt_tokens=5))
    hub.start()
    answer = completed(hub, list(range(3, 9)))
    assert answer.status_code == 400
    assert "6 tokens, 5 are allowed" in answer.json()["error"]["message"]
    assert hub.load().finished == 0
    assert completed(hub, list(range(3, 8))).status_code == 200


def test_a_generation_ends_when_its_time_is_over_and_says_so_where_every_client_can_read_it(tiny_hub):
    done = completed(tiny_hub, [3, 4], request_timeout=0.02).json()
    assert Completion.model_validate(done).choices[0].finish_reason == "length"
    assert done["choices"][0]["incomplete_details"] == {"reason": "deadline"}
    assert done["usage"]["completion_tokens"] < 230
    *_, last, end = completed(tiny_hub, [3, 4], stream=True, request_timeout=0.02).text.split("\n\n")[:-1]
    (choice,) = json.loads(last.removeprefix("data: "))["choices"]
    assert (choice["finish_reason"], choice["incomplete_details"]) == ("length", {"reason": "deadline"})
    assert end == "data: [DONE]"
    whole = completed(tiny_hub, [3, 4]).json()
    assert whole["usage"]["completion_tokens"] == 230
    assert (whole["choices"][0]["finish_reason"], whole["choices"][0]["incomplete_details"]) == ("length", None)
