"""Where a server may listen, and what it says where it cannot."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from adapter_hub.config import ServerSettings
from adapter_hub.errors import AdapterHubError, SettingError
from adapter_hub.server.process import hold_listen, is_loopback, open_socket


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_key(host):
    assert is_loopback(host)
    hold_listen(ServerSettings(host=host), has_keys=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", "localhost.example.org", ""])
def test_anything_else_does(host):
    with pytest.raises(SettingError, match="no API key"):
        hold_listen(ServerSettings(host=host), has_keys=False)
    hold_listen(ServerSettings(host=host), has_keys=True)


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
