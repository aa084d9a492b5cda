"""``demo``: what is handed to the app, and what is said where it cannot run."""

import sys
from types import SimpleNamespace

from adapter_hub import Settings
from adapter_hub.commands.demo import APP


def test_the_flags_reach_the_app(run, monkeypatch):
    given = {}
    monkeypatch.setitem(sys.modules, APP, SimpleNamespace(run=lambda **kw: given.update(kw)))
    ran = run("demo", "--port", "7000", "--no-browser", "--quantization", "none", "--base", "x", "--offline")
    assert (ran.code, ran.err) == (0, "")
    assert given == {
        "host": "127.0.0.1",
        "port": 7000,
        "open_browser": False,
        "base": "x",
        "quantization": None,
        "settings": Settings.from_environment(offline=True),
        "controls": None,
    }
    run("demo")
    assert (given["port"], given["open_browser"], given["base"], given["quantization"]) == (None, True, None, "nf4")
    run("demo", "--host", "0.0.0.0", "--controls")
    assert (given["host"], given["controls"]) == ("0.0.0.0", True)


def test_a_missing_gradio_names_the_extra_to_install(run, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("adapter_hub_demo.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    ran = run("demo")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "adapter-hub[demo]" in ran.err


def test_any_other_missing_module_is_not_taken_for_gradio(run, monkeypatch):
    def without_sqlite(**_: object) -> None:
        raise ModuleNotFoundError("No module named 'sqlite3'", name="sqlite3")

    monkeypatch.setitem(sys.modules, APP, SimpleNamespace(run=without_sqlite))
    ran = run("demo")
    assert ran.code == 1
    assert "sqlite3" in ran.err
    assert "adapter-hub[demo]" not in ran.err
