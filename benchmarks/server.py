"""What HTTP costs over the engine: the same requests through ``hub.submit`` and through the server, in turns.

    python -m benchmarks.server [TURNS [REQUESTS A CLIENT [NEW TOKENS [CLIENTS,...]]]]

The server runs in a thread beside the hub, as it does in ``adapter-hub serve``; its clients are a process of their
own. In-process callers are threads. Either way as many requests run at a time as there are clients, each with one of
eight adapters, streamed. Before anything is timed, the answers of both ways are held against each other in float32.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import httpx
import uvicorn

from adapter_hub import AdapterHub, Settings
from adapter_hub.config import ServerSettings
from adapter_hub.server import create_app
from adapter_hub.server.logs import open_log
from adapter_hub.server.process import config_of

from .serving import make_adapters, prompt

ADAPTERS = 8
CLIENTS = (1, 8, 32, 64)


class Job(NamedTuple):
    """One request."""

    adapter: str
    text: str
    new: int
    eos: int  # a token that is not to come, so that all answers are of one length


class Answer(NamedTuple):
    """Its text, and seconds until its first piece and its end."""

    text: str
    first: float
    total: float


def jobs_of(count: int, new: int, eos: int, seed: int, first: str = "the") -> list[Job]:
    """Requests of 16 to 64 tokens. Those with another first word share no pages of keys and values with these."""
    draw = random.Random(seed)
    return [Job(f"a{draw.randrange(ADAPTERS)}", f"{first} {prompt(draw, 16, 64)}", new, eos) for _ in range(count)]


def through_hub(hub: AdapterHub, jobs: Sequence[Job], clients: int) -> tuple[list[Answer], float]:
    """All answers, and the seconds for all."""

    def one(job: Job) -> Answer:
        start, first, text = time.perf_counter(), 0.0, ""
        asked = hub.submit(job.text, adapter=job.adapter, max_new_tokens=job.new, logit_bias={job.eos: -100})
        for piece in asked:
            first = first or time.perf_counter() - start
            text += piece
        return Answer(text, first, time.perf_counter() - start)

    with ThreadPoolExecutor(clients) as pool:
        start = time.perf_counter()
        answers = list(pool.map(one, jobs))
        return answers, time.perf_counter() - start


def through_http(url: str, jobs: Sequence[Job], clients: int) -> tuple[list[Answer], float]:
    """The same over HTTP; runs in the clients' process."""
    return asyncio.run(_through_http(url, jobs, clients))


async def _through_http(url: str, jobs: Sequence[Job], clients: int) -> tuple[list[Answer], float]:
    turn = asyncio.Semaphore(clients)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits, trust_env=False) as client:

        async def one(job: Job) -> Answer:
            asked = {"model": job.adapter, "prompt": job.text, "max_tokens": job.new, "temperature": 0, "stream": True}
            asked["logit_bias"] = {str(job.eos): -100}
            async with turn:
                start, first, text = time.perf_counter(), 0.0, ""
                async with client.stream("POST", "/v1/completions", json=asked) as stream:
                    async for line in stream.aiter_lines():
                        if line.startswith("data: {"):
                            piece = json.loads(line[6:])["choices"][0]["text"]
                            first = first or (time.perf_counter() - start if piece else 0.0)
                            text += piece
                return Answer(text, first, time.perf_counter() - start)

        await client.get("/health")
        start = time.perf_counter()
        answers = await asyncio.gather(*map(one, jobs))
        return list(answers), time.perf_counter() - start


@contextmanager
def served(hub: AdapterHub) -> Iterator[str]:
    """The address of a server over a hub, as ``adapter-hub serve`` configures it."""
    settings = ServerSettings()
    with Path(os.devnull).open("w") as nowhere:
        open_log(settings, to=nowhere)  # its lines are made as ever
        yield from _served(hub, settings)


def _served(hub: AdapterHub, settings: ServerSettings) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(hub, settings), **config_of(settings)))
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([own],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{own.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def opened(paths: Sequence[Path], dtype: str) -> Iterator[AdapterHub]:
    """A hub with the adapters resident."""
    with AdapterHub.from_pretrained(dtype=dtype, settings=Settings(max_rows=max(CLIENTS))) as hub:
        for path in paths:
            hub.load_adapter(path, path.name)
        yield hub


def check(paths: Sequence[Path], apart: ProcessPoolExecutor, count: int) -> dict[str, int]:
    """The answers of both ways, each against the other and against the request alone."""
    with opened(paths, "float32") as hub, served(hub) as url:
        jobs = jobs_of(count, 8, hub.tokenizer.eos_token_id, seed=1)
        alone = [through_hub(hub, [job], 1)[0][0].text for job in jobs]
        direct, _ = through_hub(hub, jobs, 8)
        over, _ = apart.submit(through_http, url, jobs, 8).result()
    assert [answer.text for answer in direct] == alone, "an answer of the engine differs from what it is alone"
    assert [answer.text for answer in over] == alone, "an answer over HTTP differs from what it is alone"
    return {"requests": len(jobs), "equal": len(jobs), "distinct": len({*alone})}


def measure(
    hub: AdapterHub, url: str, apart: ProcessPoolExecutor, clients: int, each: int, new: int, turns: int
) -> dict[str, float]:
    """Both ways in turns, either of them first in every other; medians.

    The ratio is that of a turn's two, which lie closest in time. Their requests differ in the first word alone.
    """
    found: list[tuple[float, float, float, float]] = []
    for turn in range(turns + 1):
        direct, over = (
            jobs_of(clients * each, new, hub.tokenizer.eos_token_id, turn, first) for first in ("one", "two")
        )
        for way in ("hub", "http") if turn % 2 else ("http", "hub"):
            if way == "hub":
                answers, seconds = through_hub(hub, direct, clients)
            else:
                answers_over, seconds_over = apart.submit(through_http, url, over, clients).result()
        firsts = median(a.first for a in answers), median(a.first for a in answers_over)
        if turn:  # the first warms both
            found.append((seconds, seconds_over, *firsts))
    count = clients * each
    return {
        "hub_requests_per_second": count / median(f[0] for f in found),
        "http_requests_per_second": count / median(f[1] for f in found),
        "http_over_hub_seconds": median(f[1] / f[0] for f in found),
        "milliseconds_a_request": 1e3 * median(f[1] - f[0] for f in found) / count,
        "hub_first_token_seconds": median(f[2] for f in found),
        "http_first_token_seconds": median(f[3] for f in found),
    }


def main() -> None:
    """Check, time, write."""
    from .reporting import write

    given = [*sys.argv[1:], *["5", "4", "24", ",".join(map(str, CLIENTS))][len(sys.argv) - 1 :]]
    turns, each, new = map(int, given[:3])
    counts = [int(count) for count in given[3].split(",")]
    figures: dict[str, Any] = {"turns": turns, "requests_a_client": each, "new_tokens": new, "adapters": ADAPTERS}
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart,
    ):
        with AdapterHub.from_pretrained(settings=Settings()) as hub:
            paths = make_adapters(Path(scratch), hub.model, ADAPTERS)
        figures["check"] = check(paths, apart, 24)
        with opened(paths, "auto") as hub, served(hub) as url:
            figures["clients"] = {}
            for clients in counts:
                figures["clients"][str(clients)] = measure(hub, url, apart, clients, each, new, turns)
                print(clients, figures["clients"][str(clients)], flush=True)
    write("server", figures)


if __name__ == "__main__":
    main()
