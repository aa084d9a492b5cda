"""A draining server refuses what is new, lets what runs end, and cancels it when its time is over."""

from __future__ import annotations

import asyncio

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ..until import SECONDS
from .told import client_of, told_app


def test_what_runs_ends_and_what_is_new_is_refused(tiny_hub):
    async def run():
        app = told_app(tiny_hub)
        drain = app.state.operations.drain
        async with client_of(app) as client:
            assert (await client.get("/ready")).json() == {"status": "ready"}
            running = asyncio.create_task(client.get("/told/wait"))
            while not drain.num_running:
                await asyncio.sleep(0)
            drain.begin()
            refused = await client.post("/told/read", content=b"x")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["error"]["code"] == "shutting_down"
            assert refused.headers["x-request-id"]
            statuses = {path: (await client.get(path)).status_code for path in ("/health", "/ready", "/metrics")}
            assert statuses == {"/health": 200, "/ready": 503, "/metrics": 200}
            assert not await drain.wait(0.01)
            app.state.may_end.set()
            assert (await running).json() == "done"
            assert await drain.wait(SECONDS)

    asyncio.run(run())


def test_what_is_cancelled_ends_with_what_it_has(tiny_hub, gate):
    async def run():
        app = told_app(tiny_hub)
        drain = app.state.operations.drain
        async with client_of(app) as client:
            before = tiny_hub.load().tokens
            with gate.shut(after=5):
                running = asyncio.create_task(client.post("/told/say", params={"new": 200}, content=b"a"))
                while not tiny_hub.load().active:
                    await asyncio.sleep(0.001)
                drain.begin()
                drain.cancel()
            assert await drain.wait(SECONDS)
            assert (await running).status_code == 200
            assert tiny_hub.load().tokens < before + 200
        assert tiny_hub.load().active == 0

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_the_end_of_the_server_cut_says_so(tiny_hub, stream):
    async def run():
        app = told_app(tiny_hub)
        asked = {"model": "base", "max_tokens": 200, "temperature": 0, "ignore_eos": True, "stream": stream}
        asked["messages"] = [{"role": "user", "content": "a"}]
        async with client_of(app) as client:
            running = asyncio.create_task(client.post("/v1/chat/completions", json=asked))
            while not tiny_hub.load().active:
                await asyncio.sleep(0.001)
            app.state.operations.drain.cancel()
            return (await running).text

    text = asyncio.run(run())
    if stream:
        *chunks, end = (event.removeprefix("data: ") for event in text.split("\n\n") if event)
        assert end == "[DONE]"
        choices = [ChatCompletionChunk.model_validate_json(chunk).choices[0] for chunk in chunks]
        assert [choice.finish_reason for choice in choices[:-1]] == [None] * (len(choices) - 1)
        choice = choices[-1]
    else:
        choice = ChatCompletion.model_validate_json(text).choices[0]
    assert choice.finish_reason == "length"
    assert choice.incomplete_details == {"reason": "cancelled"}


def test_a_server_whose_engine_cannot_run_is_not_ready(open_hub):
    async def run():
        hub = open_hub()
        app = told_app(hub)
        hub.close()
        async with client_of(app) as client:
            answer = await client.get("/ready")
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "engine_stopped"
            assert (await client.get("/health")).status_code == 200

    asyncio.run(run())
