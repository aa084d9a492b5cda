"""Headers and bodies beyond the limits are refused before they are read."""

from __future__ import annotations

import asyncio

import pytest

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


def test_a_prompt_of_too_many_tokens_is_refused_before_it_runs(open_hub):
    from adapter_hub import Settings
    from adapter_hub.errors import RequestError

    hub = open_hub(settings=Settings(max_prompt_tokens=5))
    assert hub.generate("a" * 3, adapter=None, max_new_tokens=1).completion_tokens <= 1
    with pytest.raises(RequestError, match="max_prompt_tokens"):
        hub.submit("long words " * 20, adapter=None, max_new_tokens=1)
