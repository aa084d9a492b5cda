"""Who may do what: with keys and without."""

from __future__ import annotations

import pytest

from adapter_hub.config import ServerSettings
from adapter_hub.errors import (
    AccessError,
    CorruptFile,
    NotRegistered,
    PartialFailure,
    RequestError,
    SettingError,
    Unauthorized,
)
from adapter_hub.server.rights import Caller, Rights, is_loopback
from adapter_hub.store import Registry


@pytest.fixture
def registry():
    registry = Registry()
    yield registry
    registry.close()


def test_without_a_key_everybody_on_this_machine_may_do_everything(registry):
    rights = Rights(registry, ServerSettings())
    for client, host, origin in (
        ("127.0.0.1", "localhost:8000", None),
        ("::1", "[::1]:8000", "http://localhost:3000"),
        (None, "127.0.0.1", None),
    ):
        caller = rights.caller("Bearer EMPTY", client=client, host=host, origin=origin)
        assert caller.scopes == {"infer", "admin"}
        assert caller.sees_all


@pytest.mark.parametrize(
    ("client", "host", "origin", "said"),
    [
        ("10.0.0.7", "localhost", None, "its own machine alone"),
        ("::ffff:10.0.0.7", "localhost", None, "its own machine alone"),
        ("127.0.0.1", "evil.example:8000", None, "Host names another"),
        ("127.0.0.1", "127.0.0.1.evil.example", None, "Host names another"),
        ("127.0.0.1", "localhost@evil.example", None, "Host names another"),
        ("127.0.0.1", "", None, "Host names another"),
        ("127.0.0.1", "[::1", None, "Host names another"),
        ("127.0.0.1", "localhost", "https://evil.example", "Origin names another"),
        ("127.0.0.1", "localhost", "null", "Origin names another"),
    ],
)
def test_without_a_key_nobody_else_gets_in(registry, client, host, origin, said):
    with pytest.raises(AccessError, match=said):
        Rights(registry, ServerSettings()).caller(None, client=client, host=host, origin=origin)


def test_with_a_key_there_is_no_way_without_one(registry):
    info, secret = registry.keys.create("team", ["infer"], ["sql*"])
    rights = Rights(registry, ServerSettings())
    for header in (None, "", "Bearer", "Bearer ", f"Basic {secret}", secret, f"Bearer {secret}x", "Bearer \xe9"):
        with pytest.raises(Unauthorized):
            rights.caller(header, client="127.0.0.1", host="localhost")
    caller = rights.caller(f"bearer  {secret}", client="10.0.0.7", host="models.example", origin="https://x.example")
    assert (caller.name, caller.scopes, caller.key) == ("team", {"infer"}, info)
    registry.keys.revoke("team")
    with pytest.raises(Unauthorized, match="not known, or not in force"):
        rights.caller(f"Bearer {secret}", client="127.0.0.1", host="localhost")
    with pytest.raises(Unauthorized, match="asks for an API key"):
        rights.caller(None, client="127.0.0.1", host="localhost")


def test_the_settings_key_may_do_everything(registry):
    settings = ServerSettings(api_key="wörd")
    assert "wörd" not in repr(settings)
    rights = Rights(registry, settings)
    assert rights.caller("Bearer wörd", client="10.0.0.7").scopes == {"infer", "admin"}
    for wrong in ("Bearer w", "Bearer wörd2", None):
        with pytest.raises(Unauthorized):
            rights.caller(wrong)


def test_a_server_listens_beyond_loopback_only_with_a_key(registry):
    rights = Rights(registry, ServerSettings())
    for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost"):
        rights.hold_listenable(host)
    for host in ("0.0.0.0", "::", "192.168.1.2", "models.example", ""):
        with pytest.raises(SettingError, match="without an API key"):
            rights.hold_listenable(host)
    Rights(registry, ServerSettings(api_key="x")).hold_listenable("0.0.0.0")
    registry.keys.create("team")
    rights.hold_listenable("0.0.0.0")


def test_only_this_machines_names_are_loopback():
    assert all(map(is_loopback, ("localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "[::1]", "::1")))
    assert not any(map(is_loopback, ("", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "::", "1")))


def test_a_sum_that_cannot_be_read_is_that_for_everybody(registry):
    registry.keys.create("x", ["infer"], ["sql*"])
    caller = Rights(registry, ServerSettings())
    key = registry.keys.create("y", ["infer"], ["sql*"])[1]
    mine = caller.caller(f"Bearer {key}")
    with pytest.raises(RequestError, match="cannot be read"):
        mine.hold_usable("sql**2")
    with pytest.raises(NotRegistered, match="names no adapter"):
        mine.hold_usable("../sql")
    mine.hold_usable(None)


def test_an_error_of_many_rows_is_told_as_the_first_of_them():
    reader = Caller("reader", frozenset({"infer"}))
    for inner, word in (
        (CorruptFile("/srv/x is cut off."), "cannot be served"),
        (RequestError("too long."), "too long"),
    ):
        whole = PartialFailure(
            f"2 rows failed; {inner}", hint="", completions=[None, None], errors={0: inner, 1: inner}
        )
        told = reader.told(whole)
        assert word in str(told)
        assert (told.status, "/srv" in str(told)) == (inner.status, False)
        assert Caller("boss", frozenset({"admin"})).told(whole) is whole
