"""The address of a server: what is said where it cannot be had."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from adapter_hub.errors import AdapterHubError
from adapter_hub.server.process import open_socket


def test_a_taken_port_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(AdapterHubError, match=f"127.0.0.1:{port}.*in use.*--port"):
            open_socket("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 80), ("127.0.0.1", 70000), ("198.51.100.1", 0)])
def test_an_address_that_cannot_be_is_named(host, port):
    with pytest.raises(AdapterHubError, match=f"{host}:{port}"):
        open_socket(host, port)


def test_nobody_is_let_in_before_the_server_listens():
    with (
        closing(open_socket("127.0.0.1", 0)) as held,
        socket.socket() as client,
        pytest.raises(ConnectionRefusedError),
    ):
        client.connect(held.getsockname())
