"""The scripts of demo/examples run as they stand, and say what they are there to show."""

from __future__ import annotations

import re
import runpy

import pytest


@pytest.fixture
def run(capsys):
    """Runs a script and gives the lines that it wrote."""

    def run_script(name: str) -> list[str]:
        runpy.run_module(f"demo.examples.{name}", run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run_script


def test_serving_many(run):
    lines = run("serve_many")
    assert len({line.split()[0] for line in lines[:23]}) == 12
    right, asked = map(int, re.match(r"(\d+) of (\d+) right", lines[-2]).groups())
    assert right >= 0.8 * asked
    assert lines[-1].startswith("11 adapters take ")


def test_switching(run):
    lines = run("switch")
    assert lines[0] == "sql> SELECT COUNT(*) FROM employees WHERE city = 'Rome';"
    assert lines[1] == "dates> 2027-05-03"
    assert sum(line.startswith("set_adapter(") for line in lines) == 4
    assert [line.partition("> ")[0] for line in lines[-3:]] == ["sql", "sql*0.5+dates*0.5", "dates"]


def test_a_type_of_ones_own(run):
    lines = run("own_type")
    assert lines[0] == "gains, 30 sites"
    base, loud = (line.partition("> ")[2] for line in lines[1:3])
    assert base.startswith("The capital of France is Paris")
    assert loud != base
    assert lines[-2] == "merged into 30 weights"
    assert lines[-1].startswith("refused: 1 tensors")
