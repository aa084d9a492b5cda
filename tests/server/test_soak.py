"""Fifty adapters loaded and unloaded in a loop under traffic: every answer is its own adapter's, and nothing is left.

It runs for ``ADAPTER_HUB_SOAK_SECONDS``, 12 where nobody says otherwise, and where that is too
short for enough to happen, until it has.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import httpx
import pytest

from adapter_hub import AdapterHub, Settings
from adapter_hub.config import ServerSettings
from adapter_hub.memory import process_bytes

from ..commands.conftest import save_adapter
from ..until import until
from .conftest import Served, serving

_log = logging.getLogger(__name__)
SECONDS_MORE = 240
SECONDS = float(os.environ.get("ADAPTER_HUB_SOAK_SECONDS", "12"))
ADAPTERS, RESIDENT, CLIENTS, TOKENS = 50, 8, 12, 10
PROMPT = "Once upon a time"
WHAT = ("loaded", "unloaded", "left")  # is counted beside the answers of each adapter
MAY_GROW = 96 * 2**20  # bytes of the process: allocators keep some of what they are given back


@dataclass
class Soak:
    """Traffic on a server, and what came of it.

    Args:
        served: the server.
        hub: what it serves.
        folders: adapters by name.
        alone: what each of them says alone; None is the base.
    """

    served: Served
    hub: AdapterHub
    folders: dict[str, Path]
    alone: dict[str, str]
    until: float = 0.0
    at_most: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = [*self.alone]
        random.Random(0).shuffle(names)
        self.models = cycle(names)

    async def run(self, seconds: float, *, is_last: bool = False) -> None:
        """Everything at once, for so long, and the last time until enough was seen; the first failure ends it."""
        self.until = time.monotonic() + seconds
        self.at_most = self.until + (SECONDS_MORE if is_last else 0)
        limits = httpx.Limits(max_connections=None)
        async with (
            httpx.AsyncClient(base_url=self.served.url, timeout=120, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            for k in range(CLIENTS):
                group.create_task(self.client(client, random.Random(k)))
            for k in range(2):
                group.create_task(self.churn(client, random.Random(100 + k)))
            group.create_task(self.rude(random.Random(200)))

    @property
    def is_on(self) -> bool:
        """Whether to go on."""
        now = time.monotonic()
        return now < self.until or (now < self.at_most and not self.has_seen_enough)

    @property
    def has_seen_enough(self) -> bool:
        """Whether every adapter has answered, and the others have come and gone."""
        return all(self.seen[name] for name in self.alone) and min(self.seen[what] for what in WHAT) > 10

    async def client(self, client: httpx.AsyncClient, draw: random.Random) -> None:
        """One request after the other, whole or streamed, each held against the adapter alone."""
        while self.is_on:
            model = next(self.models)
            asked = {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
            if draw.random() < 0.5:
                answer = await client.post("/v1/completions", json=asked)
                assert answer.status_code == 200, answer.text
                said = answer.json()["choices"][0]["text"]
            else:
                said = await self.streamed(client, asked)
            self.seen[model] += 1
            if said != self.alone[model]:
                self.wrong.append(f"{model}: {said!r} for {self.alone[model]!r}")

    async def streamed(self, client: httpx.AsyncClient, asked: dict) -> str:
        said, last = "", ""
        async with client.stream("POST", "/v1/completions", json={**asked, "stream": True}) as stream:
            assert stream.status_code == 200
            async for line in stream.aiter_lines():
                if line:
                    last = line
                if line.startswith("data: {"):
                    chunk = json.loads(line[6:])
                    assert "error" not in chunk, chunk
                    said += chunk["choices"][0]["text"]
        assert last == "data: [DONE]"
        return said

    async def churn(self, client: httpx.AsyncClient, draw: random.Random) -> None:
        """Load, unload, and register again; an adapter that is busy stays, and where all slots are there is no room."""
        while self.is_on:
            name = draw.choice([*self.folders])
            loaded = await client.post(f"/v1/adapters/{name}/load")
            assert loaded.status_code in (200, 507), loaded.text
            keep = {"keep_on_host": draw.random() < 0.3}
            unloaded = await client.post(f"/v1/adapters/{name}/unload", json=keep)
            assert unloaded.status_code in (200, 409), unloaded.text
            again = await client.post("/v1/adapters", json={"name": name, "source": str(self.folders[name])})
            assert again.status_code == 201, again.text
            self.seen["loaded"] += loaded.status_code == 200
            self.seen["unloaded"] += unloaded.status_code == 200

    async def rude(self, draw: random.Random) -> None:
        """Clients that send half a body, or leave in the middle of an answer."""
        host, _, port = self.served.url.removeprefix("http://").partition(":")
        head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        while self.is_on:
            name = draw.choice([*self.folders])
            body = b'{"model":"%s","prompt":"x","max_tokens":200,"stream":true}' % name.encode()
            length = len(body) + draw.choice([0, 0, 5])
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(head + b"content-length: %d\r\n\r\n%s" % (length, body))
            await writer.drain()
            try:
                if length == len(body):
                    assert (await reader.read(100)).startswith(b"HTTP/1.1 200")
            finally:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
            self.seen["left"] += 1


def held() -> tuple[int, int]:
    """Threads and open files of this process; the workers of the server's pool come with its load and go later."""
    threads = [thread for thread in threading.enumerate() if not thread.name.startswith("AnyIO")]
    return len(threads), len(os.listdir("/proc/self/fd"))


def settle(soak: Soak) -> None:
    """Wait until nothing runs any more, and take every adapter off the device."""
    drain, state = soak.served.app.state.operations.drain, soak.served.server.server_state
    until(lambda: not (soak.hub.load().active or soak.hub.load().waiting or drain.num_running))
    until(lambda: not (state.tasks or state.connections))
    soak.hub.unload()
    gc.collect()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux lists them")
def test_adapters_come_and_go_under_traffic(bases, tmp_path):
    folders = {f"a{k}": Path(save_adapter(tmp_path / f"a{k}", seed=k, scale=0.5)) for k in range(ADAPTERS)}
    settings = Settings(max_resident=RESIDENT)
    with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", settings=settings) as hub:
        for name, folder in folders.items():
            hub.register(name, folder)
        alone = {n: hub.generate(PROMPT, adapter=n, max_new_tokens=TOKENS).text for n in folders}
        assert len({*alone.values()}) == ADAPTERS  # each marks its own
        alone["base"] = hub.generate(PROMPT, adapter=None, max_new_tokens=TOKENS).text
        own = ServerSettings(read_timeout=1.0, adapter_folders=str(tmp_path), watch_folders=False)
        with serving(hub, own) as served:
            soak = Soak(served, hub, folders, alone)
            asyncio.run(soak.run(SECONDS / 4))
            settle(soak)
            before, size = held(), process_bytes()
            asyncio.run(soak.run(SECONDS, is_last=True))
            settle(soak)
            after, memory = held(), hub.memory()
        answers = sum(soak.seen[model] for model in alone)
        counts = {what: soak.seen[what] for what in WHAT}
        grown = process_bytes() - size
        _log.info("%d answers, %s, %d bytes grown, threads and files %s, %s", answers, counts, grown, before, after)
        assert not soak.wrong, soak.wrong[:5]
        assert soak.has_seen_enough, soak.seen
        assert after[0] <= before[0] + 4
        assert after[1] <= before[1] + 4
        assert grown < MAY_GROW
        assert (memory.adapters, memory.host) == ({}, {})
        assert not any(hub._residents.in_flight().values())
