"""The README's commands are those that CI runs, and its snippets run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_ci_runs_the_readmes_test_command():
    command = next(block.strip() for block in _blocks("bash") if "pytest" in block)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_readmes_python_runs(tmp_path):
    (snippet,) = _blocks("python")
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", snippet],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": os.environ.get("HOME", str(tmp_path))},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "SELECT COUNT(*) FROM employees WHERE city = 'Rome';"
    assert [line.partition(" -> ")[0] for line in lines if " -> " in line] == ["sql", "None", "contact"]


def test_the_readmes_terminal_session_runs(tmp_path):
    session = next(block for block in _blocks("bash") if "adapter-hub inspect" in block)
    environment = {**os.environ, "ADAPTER_HUB_REGISTRY": str(tmp_path / "registry.sqlite3")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", session],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "[base]" in done.stdout
    assert "[sql]\nSELECT COUNT(*) FROM employees WHERE city = 'Rome';" in done.stdout
    assert re.search(r"^lora +adapter-hub", done.stdout, flags=re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_the_readmes_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_the_readme_installs_what_its_commands_need():
    for block in _blocks("bash"):
        for word in shlex.split(block, comments=True):
            if word.startswith(("-e.", ".[")):
                extra = word.partition("[")[2].rstrip("]")
                assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
