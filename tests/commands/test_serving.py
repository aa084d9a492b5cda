"""``serve``: what stops its start, its file, and its life as a process: signals, kill -9, restart."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import fields
from types import SimpleNamespace

import httpx
import pytest
from starlette.requests import Request

from adapter_hub.commands import serving
from adapter_hub.commands.settings_file import SettingsFile
from adapter_hub.config import ServerSettings, Settings
from adapter_hub.errors import AdapterHubError, SettingError
from adapter_hub.server.rights import Rights
from adapter_hub.store import Registry

from ..until import until
from .started import Started, started

pytestmark = pytest.mark.usefixtures("logging_kept")


@pytest.mark.parametrize(
    ("argv", "code", "named"),
    [
        (["--adapter", "sql"], 2, "NAME=REF"),
        (["--adapter", "a=x", "--adapter", "a=y"], 2, "'a' twice"),
        (["--host", "0.0.0.0"], 2, "API key"),
        (["--port", "70000"], 2, "70000"),
        (["--config", "/nowhere.toml"], 2, "/nowhere.toml"),
        (["--drain-seconds", "-1"], 2, "drain_seconds"),
        (["--base", "/nowhere/at/all", "--port", "0"], 1, "/nowhere/at/all"),
    ],
)
def test_what_cannot_be_served_is_one_line(run, argv, code, named):
    ran = run("serve", *argv)
    assert (ran.code, ran.out) == (code, "")
    assert named in ran.err.splitlines()[-1]
    assert len([line for line in ran.err.splitlines() if "error:" in line]) == 1


def test_a_taken_port_is_found_before_the_base_is_loaded(run):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        ran = run("serve", "--base", "/nowhere/at/all", "--port", port)
    assert ran.code == 1
    assert f"127.0.0.1:{port}" in ran.err
    assert "in use" in ran.err


def test_a_bad_adapter_stops_the_start_and_is_named(run, on_base, adapter):
    ran = run("serve", *on_base, "--port", "0", "--adapter", f"good={adapter}", "--adapter", "bad=/nowhere/adapter")
    assert ran.code == 1
    assert "'bad'" in ran.err.splitlines()[-1]
    assert "/nowhere/adapter" in ran.err.splitlines()[-1]


class TestFile:
    def read(self, tmp_path, text: str) -> SettingsFile:
        path = tmp_path / "server.toml"
        path.write_text(text)
        return SettingsFile.read(path)

    def test_it_has_every_setting_of_both_tables(self, tmp_path):
        values = {
            entry.name: entry.metadata["choices"][-1] if entry.metadata["choices"] else entry.default
            for table in (Settings, ServerSettings)
            for entry in fields(table)
        }
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        said = self.read(tmp_path, f'base = "org/base"\ndtype = "float32"\n{text}[adapters]\nsql = "./sql"\n')
        assert (said.base, said.adapters) == ({"base": "org/base", "dtype": "float32"}, {"sql": "./sql"})
        assert {**said.hub, **said.server} == values

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("prot = 80", "no setting prot. Did you mean port?"),
            ("max_rezident = 8", "no setting max_rezident. Did you mean max_resident?"),
            ("zzz = 1", "no setting zzz.*settings.md"),
            ("[server]\nport = 1", "no setting server"),
            ('port = "80"', "port is '80'.*whole number"),
            ("port = true", "port is True.*whole number"),
            ("offline = 1", "offline is 1.*true or false"),
            ("drain_seconds = 'x'", "drain_seconds is 'x'.*a number"),
            ("base = 1", "base is 1"),
            ("adapters = 'x'", "adapters is no table"),
            ("[adapters]\nsql = 1", "adapters.sql is 1"),
            ("port = ", "cannot be read"),
        ],
    )
    def test_what_it_cannot_say_is_named(self, tmp_path, text, message):
        with pytest.raises(SettingError, match=rf"server.toml.*{message}"):
            self.read(tmp_path, text)

    def test_one_that_is_not_there_is_said_not_to_be(self, tmp_path):
        with pytest.raises(SettingError, match=r"server.toml does not exist. Name one"):
            SettingsFile.read(tmp_path / "server.toml")

    def test_a_flag_wins_over_the_environment_and_that_over_the_file(self, tmp_path, run, monkeypatch):
        path = tmp_path / "server.toml"
        path.write_text('host = "127.0.0.3"\nport = 3\n[adapters]\na = "x"\nb = "y"')

        def held(*address):
            raise SettingError(f"as far as {address}.", hint="")

        monkeypatch.setattr("adapter_hub.server.process.open_socket", held)
        assert "('127.0.0.3', 3)" in run("serve", "--config", str(path)).err
        monkeypatch.setenv("ADAPTER_HUB_PORT", "2")
        assert "('127.0.0.3', 2)" in run("serve", "--config", str(path)).err
        assert "('127.0.0.3', 1)" in run("serve", "--config", str(path), "--port", "1").err


def test_the_demo_is_mounted_where_it_is_asked_for(monkeypatch):
    given = {}
    monkeypatch.setitem(sys.modules, serving.DEMO, SimpleNamespace(mount=lambda *of, **kw: given.update(of=of, **kw)))
    with closing(Registry(None)) as registry:
        rights = Rights(registry, ServerSettings())
        app = SimpleNamespace(state=SimpleNamespace(service=SimpleNamespace(rights=rights)))
        serving._mount_demo(app, "hub")
        user = given.pop("auth_dependency")
        assert given == {"of": (app, "hub"), "path": "/ui"}
        assert user(page_request({"host": "localhost"})) == "local"
        assert user(page_request({"host": "evil.example"})) is None
        keys = {name: registry.keys.create(name, ("infer",), of)[1] for name, of in (("all", ("*",)), ("some", ("a",)))}
        assert user(page_request({"host": "localhost"})) is None
        assert [user(page_request(shown(keys[name]))) for name in ("all", "some")] == ["all", None]


def test_a_missing_gradio_names_the_extra_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("adapter_hub_demo.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    app = SimpleNamespace(state=SimpleNamespace(service=SimpleNamespace(rights=None)))
    with pytest.raises(AdapterHubError, match=r"adapter-hub\[demo\]"):
        serving._mount_demo(app, "hub")


def page_request(headers: dict[str, str]) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "client": ("127.0.0.1", 1)})


def answer(server: Started, model: str, key: str = "") -> str:
    asked = {"model": model, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0}
    done = httpx.post(f"{server.url}/v1/completions", json=asked, timeout=60, headers=shown(key))
    assert done.status_code == 200, done.text
    return done.json()["choices"][0]["text"]


def shown(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def half_sent(server: Started, key: str = "") -> socket.socket:
    """A request whose body stays away: it runs, from now on, until somebody gives up."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)))
    head = {"host": "localhost", "content-length": "100", **shown(key)}
    lines = ["POST /v1/completions HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    connection.sendall("\r\n".join([*lines, "", "{"]).encode())
    told = "adapter_hub_http_requests_running 1.0"
    until(lambda: told in httpx.get(f"{server.url}/metrics", headers=shown(key)).text)
    return connection


@pytest.fixture(scope="module")
def two_servers(tmp_path_factory, on_base, adapter, other_adapter):
    """Two servers that start side by side: one of two adapters, the other of the base alone."""
    folder = tmp_path_factory.mktemp("registries")
    named = ("--adapter", f"one={adapter}", "--adapter", f"two={other_adapter}")
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        first = pool.submit(stack.enter_context, started(folder / "first.sqlite3", *on_base, *named))
        second = pool.submit(stack.enter_context, started(folder / "second.sqlite3", *on_base))
        yield first.result(), second.result(), folder


def test_kill_9_loses_nothing_and_sigterm_ends_what_runs(two_servers, on_base):
    server, _, folder = two_servers
    before = {model: answer(server, model) for model in ("base", "one", "two", "one*0.5+two*0.5")}
    assert len({*before.values()}) == 4
    with closing(Registry(folder / "first.sqlite3")) as registry:
        _, key = registry.keys.create("kept", ("infer", "admin"))
    busy = [threading.Thread(target=_until_it_dies, args=(server, key)) for _ in range(4)]
    for thread in busy:
        thread.start()
    assert server.line_with("key", "kept")["status"] == 200
    server.process.kill()
    for thread in busy:
        thread.join()
    assert server.ended() == -signal.SIGKILL

    with started(folder / "first.sqlite3", *on_base, "--drain-seconds", "60") as again:
        assert httpx.get(f"{again.url}/v1/models").status_code == 401
        assert {model: answer(again, model, key) for model in before} == before
        asked = {"model": "two", "prompt": "x", "max_tokens": 250, "stream": True, "logit_bias": {"0": -100}}
        with (
            half_sent(again, key),  # or it might end before it has been asked all that comes below
            httpx.stream("POST", f"{again.url}/v1/completions", json=asked, timeout=60, headers=shown(key)) as stream,
        ):
            lines = stream.iter_lines()
            next(lines)
            again.process.send_signal(signal.SIGTERM)
            again.line_with("message", "stopping: 2 requests")
            refused = httpx.get(f"{again.url}/v1/models")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert httpx.get(f"{again.url}/ready").status_code == 503
            assert httpx.get(f"{again.url}/health").status_code == 200
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert again.ended() == 0
        streamed = next(line for line in again.lines if line.get("completion_tokens") == 250)
        assert streamed["finish_reasons"] == ["length"]


def _until_it_dies(server: Started, key: str) -> None:
    while True:
        try:
            answer(server, "one", key)
        except httpx.HTTPError:
            return


def test_a_second_signal_ends_it_at_once(two_servers):
    _, server, _ = two_servers
    with half_sent(server):
        server.process.send_signal(signal.SIGTERM)
        server.line_with("message", "stopping: 1 requests")
        server.process.send_signal(signal.SIGTERM)
        assert server.ended() == -signal.SIGTERM
