"""A draining server refuses what is new, lets what runs end, and cancels it when its time is over."""

from __future__ import annotations

import asyncio

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
