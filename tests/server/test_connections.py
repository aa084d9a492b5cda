"""Clients that are slow, vanish or send nonsense, against a real server, which goes on serving the others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from adapter_hub.config import ServerSettings
from adapter_hub.server.process import config_of

from ..until import SECONDS, until
from .conftest import Served, serving

ASKED = {"model": "a", "prompt": "abc", "max_tokens": 4, "temperature": 0}
HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def served(tiny_hub) -> Iterator[Served]:
    settings = ServerSettings(read_timeout=1.0, max_body_bytes=10_000, max_header_bytes=4000)
    own = {name: config_of(settings)[name] for name in ("http", "h11_max_incomplete_event_size", "server_header")}
    with serving(tiny_hub, settings, **own) as found:
        yield found


def connect(served: Served) -> socket.socket:
    host, _, port = served.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def rest(connection: socket.socket) -> bytes:
    """What still comes until the server closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def is_serving(served: Served) -> bool:
    return httpx.post(f"{served.url}/v1/completions", json=ASKED, timeout=SECONDS).status_code == 200


SLOW = [b"", b"G", HEAD, HEAD + b"x-more: "]


@pytest.fixture(scope="module")
def slow_ones(served) -> Iterator[dict[bytes, socket.socket]]:
    """A connection for each of these beginnings; they wait side by side."""
    with ExitStack() as stack:
        connections = {sent: stack.enter_context(connect(served)) for sent in SLOW}
        for sent, connection in connections.items():
            connection.sendall(sent)
        yield connections


@pytest.mark.parametrize("sent", SLOW)
def test_headers_that_do_not_come_to_an_end_close_the_connection(served, slow_ones, sent):
    assert is_serving(served)
    assert rest(slow_ones[sent]) == b""


def test_so_do_those_of_a_second_request(served):
    with connect(served) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        first = slow.recv(65536)
        slow.sendall(b"GET /hea")
        assert (first + rest(slow)).count(b"HTTP/1.1 ") == first.count(b"HTTP/1.1 200") == 1


def test_a_body_that_stays_away_is_answered_408_and_the_connection_closed(served):
    with connect(served) as slow:
        slow.sendall(HEAD + b"content-length: 100\r\n\r\n{")
        assert is_serving(served)
        assert rest(slow).startswith(b"HTTP/1.1 408")


def test_a_body_without_end_is_refused_and_not_read_for_ever(served):
    with connect(served) as slow:
        slow.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n%s\r\n" % (4000, b" " * 4000)
        slow.sendall(chunk * 3)
        first = slow.recv(65536)
        slow.sendall(chunk)  # what was on its way is taken, so that the answer is not lost
        assert first.startswith(b"HTTP/1.1 413")
        assert (first + rest(slow)).count(b"HTTP/1.1 ") == 1


def test_a_large_body_is_refused_by_its_length_alone(served):
    with connect(served) as slow:
        slow.sendall(HEAD + b"content-length: 1000000000\r\n\r\n")
        assert slow.recv(65536).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: " + b"y" * 5000 + b"\r\n\r\n", b"431"),
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: " + b"y" * 200_000, b"400"),
        (b"\x16\x03\x01\x02\x00nonsense\r\n\r\n", b"400"),
        (HEAD + b"content-length: -1\r\n\r\n", b"400"),
        (HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\n", b"400"),
        (HEAD + b"content-length: 7\r\n\r\n\xff\xfe{\x00}[[", b"400"),
        (HEAD + b"content-length: 0\r\n\r\n", b"400"),
    ],
)
def test_nonsense_is_refused(served, sent, status):
    with connect(served) as odd:
        try:
            odd.sendall(sent)
            assert odd.recv(65536).startswith(b"HTTP/1.1 " + status)
        except ConnectionError:  # closed while it still sent
            assert len(sent) > 100_000
    assert is_serving(served)


def test_clients_that_vanish_free_what_they_held(served, tiny_hub):
    for k in range(12):
        with connect(served) as gone:
            body = b'{"model":"a","prompt":"abc","max_tokens":230,"stream":true,"logit_bias":{"2":-100}}'
            length = len(body) if k % 3 else len(body) + 9
            gone.sendall(HEAD + b"content-length: %d\r\n\r\n%s" % (length, body))
            if k % 3 == 1:
                assert gone.recv(100)
    assert is_serving(served)
    until(lambda: not tiny_hub.load().active and not served.app.state.operations.drain.num_running)
    assert not any(tiny_hub._residents.in_flight().values())
