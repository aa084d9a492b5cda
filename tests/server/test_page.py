"""What docs/server.md and the README say of the server is so: their snippets run, their tables are whole."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from adapter_hub import AdapterHub, Settings
from adapter_hub.commands.settings_file import SettingsFile
from adapter_hub.config import ServerSettings, settings_table
from adapter_hub.server.logs import facts_of

from .conftest import serving
from .told import told_app

ROOT = Path(__file__).parents[2]
PAGE, README = ((ROOT / name).read_text() for name in ("docs/server.md", "README.md"))
URL = "http://127.0.0.1:8000"
SQL = "SELECT COUNT(*) FROM employees WHERE city = 'Rome';"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def url():
    with AdapterHub.from_pretrained(settings=Settings()) as hub:
        hub.register("sql", ROOT / "demo/adapters/sql")
        with serving(hub) as served:
            yield served.url


def test_the_clients_snippet_runs(url, capsys):
    (snippet,) = blocks(PAGE, "python")
    exec(compile(snippet.replace(URL, url), "docs/server.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"sql -> {SQL}"
    assert lines[1] == f"sql@1 -> {SQL}"
    assert lines[2].startswith("base -> ")
    assert SQL not in lines[2]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("text", [PAGE, README], ids=["page", "readme"])
def test_the_curl_commands_run(url, text):
    (session,) = (block for block in blocks(text, "bash") if "curl" in block)
    command = session[session.index("curl") :].replace(URL, url)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == SQL


def test_the_settings_file_is_one(tmp_path):
    (text,) = blocks(PAGE, "toml")
    path = tmp_path / "server.toml"
    path.write_text(text)
    said = SettingsFile.read(path)
    assert said.base["base"] == "org/some-causal-lm"
    assert said.adapters["med"] == "/srv/adapters/med"
    assert (said.hub["max_resident"], said.server["request_timeout"]) == (16, 120.0)


def test_the_table_has_every_metric(tiny_hub):
    registry = told_app(tiny_hub).state.operations.metrics.registry
    there = {family.name for family in registry.collect() if family.name.startswith("adapter_hub_")}
    rows = [line for line in PAGE.splitlines() if line.startswith("| `adapter_hub_")]
    assert {name for row in rows for name in re.findall(r"`(adapter_hub_\w+)`", row)} == there


def test_the_table_has_every_field_of_the_log(tiny_hub):
    from adapter_hub.server.exchange import Exchange

    generation = tiny_hub.submit("a", adapter="a", max_new_tokens=1)
    generation.wait()
    exchange = Exchange("i", "GET", "/", caller="k", model="m", status=200, is_gone=True, error="E")
    exchange.generations.append(generation)
    section = PAGE.partition("## Log")[2].partition("## ")[0]
    told = {name for line in section.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    beside = {"time", "level", "logger", "message", "trace_id", "prompt", "answers", "log_prompts"}
    assert told == facts_of(exchange).keys() | beside


def test_the_container_file_copies_and_sets_what_there_is():
    text = (ROOT / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.+)$", text, flags=re.M) for word in line.split()[:-1]]
    assert copied
    assert all((ROOT / path).exists() for path in copied)
    there = {row[1] for table in (Settings, ServerSettings) for row in settings_table(table)}
    assert set(re.findall(r"(ADAPTER_HUB_\w+)", text)) <= there
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(kept) == sorted(copied)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)", PAGE))))
def test_the_pages_links_lead_somewhere(link):
    assert (ROOT / "docs" / link).exists()
