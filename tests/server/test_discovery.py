"""What lies in the operator's folders is registered, at the start and as it comes, changes and goes."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time

import pytest

from adapter_hub import AdapterHub
from adapter_hub.config import ServerSettings
from adapter_hub.server import discovery as module
from adapter_hub.server.discovery import Discovery
from adapter_hub.server.folders import Folders

from .apps import client_of, make_app, save_some


@pytest.fixture(scope="module")
def made(bases, tmp_path_factory):
    """Adapters to copy from."""
    return save_some(bases(), tmp_path_factory.mktemp("made"), "0", "1", "2")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def hub(bases, tmp_path):
    with AdapterHub.from_pretrained(bases(), quantization=None, device="cpu", registry=tmp_path / "r.sqlite3") as hub:
        yield hub


@pytest.fixture
def discovery(hub, root):
    return Discovery(hub, Folders(ServerSettings(adapter_folders=str(root))))


def keys(hub: AdapterHub) -> list[str]:
    return [info.key for info in hub.adapters()]


def test_each_subfolder_with_an_adapter_is_registered_under_its_name(root, made, discovery, caplog):
    shutil.copytree(made / "0", root / "sql")
    shutil.copytree(made / "1", root / "run" / "checkpoint-7")
    (root / ".hidden").mkdir()
    (root / "empty").mkdir()
    (root / "no name").mkdir()
    (root / "file").touch()
    shutil.copytree(made / "2", root / "broken")
    (root / "broken" / "adapter_model.safetensors").write_bytes(b"no tensors")
    (root / "out").symlink_to(made / "2")
    with caplog.at_level(logging.WARNING, module.__name__):
        assert [info.key for info in discovery.scan()] == ["run@1", "sql@1"]
    lines = [record.getMessage() for record in caplog.records]
    assert all("\n" not in line for line in lines)
    assert len(lines) == 4
    for name, why in (
        ("empty", "no adapter"),
        ("no name", "cannot be"),
        ("broken", "safetensors"),
        ("out", "leads out"),
    ):
        assert any(f"{root / name} is not registered" in line and why in line for line in lines), name


def test_what_is_known_is_not_registered_again(hub, root, made, discovery, monkeypatch):
    shutil.copytree(made / "0", root / "sql")
    discovery.scan()
    hub.register("other", made / "1")
    monkeypatch.setattr(hub, "register", None)
    assert discovery.scan() == []


def test_changed_content_is_the_next_version_and_may_go_back(hub, root, made, discovery):
    shutil.copytree(made / "0", root / "sql")
    discovery.scan()
    shutil.copytree(made / "1", root / "sql", dirs_exist_ok=True)
    assert [info.key for info in discovery.scan()] == ["sql@2"]
    shutil.copytree(made / "0", root / "sql", dirs_exist_ok=True)
    assert [info.key for info in discovery.scan()] == ["sql@1"]
    assert hub.info("sql").version == 1
    assert hub.generate("w1 w2", adapter="sql", max_new_tokens=2).text


def test_a_name_that_stands_for_another_folder_is_left_to_it(hub, root, made, discovery, caplog, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(made / "0", elsewhere)
    hub.register("sql", elsewhere)
    shutil.copytree(made / "1", root / "sql")
    with caplog.at_level(logging.WARNING, module.__name__):
        assert discovery.scan() == []
    assert f"sql@1 is registered from {elsewhere}" in caplog.text
    shutil.rmtree(elsewhere)
    assert [info.key for info in discovery.scan()] == ["sql@2"]


def test_what_is_gone_stays_registered_and_is_told_once(hub, root, made, discovery, caplog):
    shutil.copytree(made / "0", root / "sql")
    discovery.scan()
    shutil.rmtree(root / "sql")
    with caplog.at_level(logging.WARNING, module.__name__):
        discovery.scan()
        discovery.scan()
    assert caplog.text.count("the files of sql@1 are gone") == 1
    assert keys(hub) == ["sql@1"]


def test_a_server_registers_what_comes_while_it_runs(hub, root, made, monkeypatch):
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.2)
    shutil.copytree(made / "0", root / "first")
    seen = asyncio.Event()

    async def live() -> None:
        discovery = Discovery(hub, Folders(ServerSettings(adapter_folders=str(root))))
        looked, loop = discovery.look_at, asyncio.get_running_loop()

        def look_at(places):
            found = looked(places)
            if found:
                loop.call_soon_threadsafe(seen.set)
            return found

        monkeypatch.setattr(discovery, "look_at", look_at)
        async with discovery.running(watch=True):
            assert keys(hub) == ["first@1"]
            for k, expected in (("1", "second@1"), ("2", "second@2")):
                seen.clear()
                # Until something comes of it: what is copied before the watch has begun is not seen.
                until = time.monotonic() + 60
                while not seen.is_set() and time.monotonic() < until:
                    shutil.copytree(made / k, root / "second", dirs_exist_ok=True)
                    try:
                        async with asyncio.timeout(3):
                            await seen.wait()
                    except TimeoutError:
                        continue
                assert hub.info("second").key == expected
        assert keys(hub) == ["first@1", "second@2"]

    asyncio.run(live())


def test_a_server_that_is_not_to_watch_looks_once(hub, root, made):
    shutil.copytree(made / "0", root / "first")
    with client_of(make_app(hub, adapter_folders=str(root), watch_folders=False)) as client:
        assert client.get("/v1/adapters").json()["data"][0]["key"] == "first@1"


def test_a_watch_that_fails_does_not_end_the_server(hub, root, monkeypatch, caplog):
    async def broken(*_roots, **_options):
        raise OSError("no more watches")
        yield

    monkeypatch.setattr(module, "awatch", broken)
    with client_of(make_app(hub, adapter_folders=str(root))) as client:
        assert client.get("/v1/adapters").status_code == 200
    assert "watched no more: no more watches" in caplog.text
