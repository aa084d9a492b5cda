"""API keys: made once, kept as hashes, noticed by every process that has the file open."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from adapter_hub.errors import NotRegistered, RequestError
from adapter_hub.store import Registry
from adapter_hub.store.keys import MAX_NAME_LEN


@pytest.fixture
def registry(tmp_path):
    registry = Registry(tmp_path / "r.sqlite3")
    yield registry
    registry.close()


def test_a_key_is_found_by_its_secret_alone(registry):
    keys = registry.keys
    assert not keys.exist
    info, secret = keys.create("team", ["admin", "infer"], ["sql-*", "med"], requests_per_minute=5, concurrent=2)
    assert keys.exist
    assert secret.startswith(f"ahk_{info.id}_")
    assert info.shown in f"{secret[:13]}..."
    found = keys.find(secret)
    assert found == info == keys.list()[0]
    assert (found.scopes, found.adapters, found.requests_per_minute) == (("infer", "admin"), ("sql-*", "med"), 5)
    for wrong in (
        "",
        "ahk_",
        secret[:-1],
        secret + "x",
        secret[4:],
        f"ahk_{info.id}_",
        f"ahk_{info.id}_{'a' * 43}",
        "é",
    ):
        assert keys.find(wrong) is None, wrong


def test_the_file_holds_no_secret(registry, tmp_path):
    info, secret = registry.keys.create("team")
    registry.close()
    for path in tmp_path.iterdir():
        assert secret.removeprefix(f"ahk_{info.id}_").encode() not in path.read_bytes()


def test_two_keys_with_one_secrets_text_differ_in_their_salt(registry, tmp_path):
    registry.keys.create("a")
    registry.keys.create("b")
    with sqlite3.connect(tmp_path / "r.sqlite3") as db:
        salts = [row[0] for row in db.execute("SELECT salt FROM keys")]
    assert len(set(salts)) == 2
    assert all(len(salt) == 16 for salt in salts)


def test_a_revoked_key_opens_nothing_and_its_name_is_free(registry):
    info, secret = registry.keys.create("team")
    with pytest.raises(RequestError, match="'team' is in force"):
        registry.keys.create("team")
    assert registry.keys.find(secret) is not None
    assert registry.keys.revoke("team").revoked_at
    assert registry.keys.find(secret) is None
    with pytest.raises(NotRegistered, match="no key 'team' is in force"):
        registry.keys.revoke("team")
    other, _ = registry.keys.create("team")
    assert registry.keys.revoke(other.shown).id == other.id
    assert sorted(key.id for key in registry.keys.list()) == sorted([info.id, other.id])
    assert registry.keys.exist  # nobody is let in without a key because all are revoked


def test_a_key_ends_when_it_expires(registry):
    _, secret = registry.keys.create("brief", expires_at=time.time() + 3600)
    assert registry.keys.find(secret) is not None
    _, gone = registry.keys.create("past", expires_at=time.time() - 1)
    assert registry.keys.find(gone) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": ""}, "cannot be the name"),
        ({"name": "a\nb"}, "cannot be the name"),
        ({"name": "x" * (MAX_NAME_LEN + 1)}, "cannot be the name"),
        ({"scopes": []}, "without a scope"),
        ({"scopes": ["root"]}, "'root' is no scope"),
        ({"adapters": []}, "no patterns"),
        ({"adapters": [""]}, "no patterns"),
        ({"requests_per_minute": -1}, "requests_per_minute is -1"),
        ({"tokens_per_minute": 1.5}, "tokens_per_minute is 1.5"),
        ({"concurrent": True}, "concurrent is True"),
    ],
)
def test_what_a_key_cannot_have_is_refused_by_name(registry, values, said):
    with pytest.raises(RequestError, match=said):
        registry.keys.create(**{"name": "k", **values})
    assert registry.keys.list() == []


def test_another_process_file_handle_notices_at_its_next_call(registry, tmp_path):
    other = Registry(tmp_path / "r.sqlite3")
    assert not other.keys.exist
    _, secret = registry.keys.create("team")
    assert other.keys.exist
    assert other.keys.find(secret).name == "team"
    registry.keys.revoke("team")
    assert other.keys.find(secret) is None
    other.close()


def test_uses_are_written_at_close(tmp_path):
    registry = Registry(tmp_path / "r.sqlite3")
    _, secret = registry.keys.create("team")
    assert registry.keys.list()[0].last_used_at is None
    registry.keys.find(secret)
    assert registry.keys.list()[0].last_used_at is not None
    registry.close()
    again = Registry(tmp_path / "r.sqlite3")
    assert again.keys.list()[0].last_used_at is not None
    again.close()


def test_tried_keys_fill_no_memory(registry):
    registry.keys.create("team")
    for k in range(1000):
        registry.keys.find(f"ahk_{k:08x}_{'a' * 43}")
    assert len(registry.keys._known) <= 1


MAKER = """
import sys
from adapter_hub.store import Registry
registry = Registry(sys.argv[1])
for k in range(100_000):
    info, secret = registry.keys.create(f"k{k}")
    print(secret, flush=True)
    if k % 3 == 2:
        registry.keys.revoke(f"k{k - 1}")
"""


def test_keys_are_whole_after_a_kill(tmp_path):
    path = tmp_path / "r.sqlite3"
    maker = subprocess.Popen([sys.executable, "-c", MAKER, str(path)], stdout=subprocess.PIPE, text=True)
    told = [maker.stdout.readline().strip() for _ in range(40)]
    os.kill(maker.pid, signal.SIGKILL)
    told += [line.strip() for line in maker.stdout if line.endswith("\n")]
    maker.wait()
    maker.stdout.close()
    registry = Registry(path)
    found = [registry.keys.find(secret) for secret in told]
    for k, info in enumerate(found):
        if k % 3 != 1:
            assert info.name == f"k{k}"
    revoked = [k for k, info in enumerate(found) if info is None]
    assert revoked[:10] == [1, 4, 7, 10, 13, 16, 19, 22, 25, 28]
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    registry.close()


def test_keys_change_from_many_sides_at_once(tmp_path):
    registries = [Registry(tmp_path / "r.sqlite3") for _ in range(3)]
    failures: list[BaseException] = []

    def change(own: Registry, other: Registry, name: str) -> None:
        try:
            for k in range(8):
                info, secret = own.keys.create(f"{name}-{k}")
                assert other.keys.find(secret) == info
                other.keys.revoke(f"{name}-{k}")
                assert own.keys.find(secret) is None
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=change, args=(registries[k % 3], registries[(k + 1) % 3], f"t{k}")) for k in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(registries[0].keys.list()) == 48
    for registry in registries:
        registry.close()
