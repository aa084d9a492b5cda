"""``bench``: loads that are the same for a seed, figures that add up, and what it says of servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from threading import Thread

import pytest

from adapter_hub.bench import Outcome, Target, drive, figures_of, plan
from adapter_hub.bench.figures import percentile

from ..server.conftest import serving

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_seed_makes_the_same_load_again():
    asked = {"distribution": "zipf", "rate": 5.0, "seed": 3}
    jobs = plan(["a", "b", "c"], 200, **asked)
    assert jobs == plan(["a", "b", "c"], 200, **asked)
    assert jobs != plan(["a", "b", "c"], 200, **{**asked, "seed": 4})
    assert [job.at for job in jobs] == sorted(job.at for job in jobs)


def test_arrivals_and_adapters_are_distributed_as_asked():
    jobs = plan(["a", "b", "c", "d"], 4000, distribution="zipf", rate=50.0)
    counts = Counter(job.adapter for job in jobs)
    for k, name in enumerate("abcd"):
        assert counts[name] / 4000 == pytest.approx(1 / (k + 1) / (25 / 12), abs=0.03)
    gaps = [b.at - a.at for a, b in pairwise(jobs)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1 / 50, rel=0.06)
    # Of a Poisson process the gaps' deviation is their mean.
    assert (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 == pytest.approx(mean, rel=0.1)
    even = Counter(job.adapter for job in plan(["a", "b", "c", "d"], 4000))
    assert all(count / 4000 == pytest.approx(0.25, abs=0.03) for count in even.values())
    assert {job.at for job in plan(["a"], 10)} == {0.0}


def test_percentiles_lie_between_neighbours():
    assert percentile([1.0], 99) == 1.0
    assert [percentile([0.0, 1.0, 2.0, 3.0, 4.0], share) for share in (0, 50, 90, 100)] == [0, 2, pytest.approx(3.6), 4]


def test_figures_add_up():
    outcomes = [Outcome("a", 1.0, 0.2, 10, 5), Outcome("a", 3.0, 0.6, 10, 1), Outcome("b", 0.5, error="503: busy")]
    figures = figures_of(outcomes, 4.0)
    assert (figures.requests_per_second, figures.tokens_per_second) == (0.5, 1.5)
    assert figures.errors == {"503: busy": 1}
    assert (figures.all.requests, figures.all.failed, figures.all.prompt_tokens) == (3, 1, 20)
    of_a, of_b = figures.adapters["a"], figures.adapters["b"]
    assert (of_a.first_token.mean, of_a.first_token.p50) == (pytest.approx(0.4), pytest.approx(0.4))
    assert (of_a.per_token.p50, of_a.total.p99) == (pytest.approx(0.2), pytest.approx(2.98))
    assert (of_b.failed, of_b.first_token, of_b.total) == (1, None, None)


def test_a_real_server_is_measured_told_and_drawn(run, tiny_hub, tmp_path):
    files = tmp_path / "b.json", tmp_path / "b.png"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one two\n\nthree four\n")
    with serving(tiny_hub) as served:
        ran = run(
            *("bench", "--url", served.url, "--adapters", "a,b,base,nobody", "--num-requests", "24"),
            *("--max-tokens", "5", "--endpoint", "completions", "--concurrency", "6", "--prompts", str(prompts)),
            *("--json", str(files[0]), "--png", str(files[1])),
        )
        steps = tiny_hub.load().steps
        only_bad = run("bench", "--url", f"{served.url}/v1/", "--adapters", "x", "--num-requests", "2")
    assert ran.code == 0, ran.err
    figures = json.loads(files[0].read_text())
    expected = Counter(job.adapter for job in plan(["a", "b", "base", "nobody"], 24))
    assert {name: share["requests"] for name, share in figures["adapters"].items()} == expected
    assert figures["all"]["failed"] == expected["nobody"] > 0
    assert figures["all"]["completion_tokens"] >= 24 - expected["nobody"]
    assert steps > 0
    (error,) = figures["errors"]
    assert error.startswith("404: ")
    assert figures["asked"]["num_requests"] == 24
    assert "api_key" not in figures["asked"]
    assert files[1].read_bytes().startswith(PNG)
    rows = {line.split()[0]: line.split() for line in ran.out.splitlines() if line.strip()}
    assert rows["nobody"][1:3] == [str(expected["nobody"])] * 2
    assert int(rows["all"][3]) == figures["all"]["completion_tokens"]
    assert (only_bad.code, "2 failed" in only_bad.out) == (1, True)


STREAMS = {
    "whole": b'data: {"choices":[{"text":"x"}]}\n\ndata: {"choices":[{"text":"y","finish_reason":"stop"}]}\n\n',
    "cut": b'data: {"choices":[{"text":"x"}]}\n\n',
    "failing": b'data: {"choices":[{"text":"x"}]}\n\ndata: {"error":{"message":"it broke"}}\n\n',
    "garbage": b"data: {no json\n\n",
}


class Misbehaving(BaseHTTPRequestHandler):
    """Streams what the model's name says; shows the key it was given as an error's text."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        stream = STREAMS.get(asked["model"])
        body = f"key {self.headers['authorization']}".encode() if stream is None else stream
        self.send_response(200 if stream is not None else 500)
        self.send_header("content-length", str(len(body) + (asked["model"] == "short")))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_server_that_is_not_there_is_said_not_to_be():
    with socket.socket() as held:  # bound and not listening: nobody else takes the port
        held.bind(("127.0.0.1", 0))
        target = Target(f"http://127.0.0.1:{held.getsockname()[1]}", api_key="", endpoint="chat")
        ((outcome,), _) = asyncio.run(drive(target, plan(["a"], 1), concurrency=1))
    assert outcome.error == "ConnectError: All connection attempts failed"


def test_failures_are_told_apart():
    with ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            target = Target(f"http://127.0.0.1:{server.server_port}", api_key="k", endpoint="completions")
            jobs = [job for name in (*STREAMS, "keyed") for job in plan([name], 1)]
            outcomes, _ = asyncio.run(drive(target, jobs, concurrency=2))
        finally:
            server.shutdown()
            thread.join()
    found = {outcome.adapter: outcome.error for outcome in outcomes}
    assert found == {
        "whole": "",
        "cut": "the answer breaks off",
        "failing": "it broke",
        "garbage": "JSONDecodeError",
        "keyed": "500: key Bearer k",
    }
    assert outcomes[0].completion_tokens == 2  # nobody said how many: the pieces count


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--adapters", " , "], "--adapters"),
        (["--adapters", "a", "--rate", "0"], "--rate"),
        (["--adapters", "a", "--rate", "1", "--concurrency", "2"], "not allowed with"),
        (["--adapters", "a", "--num-requests", "-3"], "--num-requests"),
        (["--adapters", "a", "--prompts", "/nowhere"], "/nowhere"),
    ],
)
def test_flags_that_cannot_be_are_named(run, argv, named):
    ran = run("bench", "--url", "http://127.0.0.1:9", *argv)
    assert ran.code == 2
    assert named in ran.err
