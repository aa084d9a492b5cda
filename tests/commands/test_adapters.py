"""``add``, ``list``, ``show`` and ``remove``."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from .conftest import save_adapter


def test_an_adapter_is_added_shown_listed_and_removed(run, on_base, adapter):
    added = run("add", "one", adapter, "--tag", "first", "--tag", "good", *on_base)
    assert (added.code, added.err) == (0, "")
    assert added.out == "one@1: lora, rank 4 at 4 sites, 8.2 kB\n"

    head, row = run("list").out.splitlines()
    columns = ["NAME", "VERSION", "ALIASES", "PINNED", "VARIANT", "RANK", "SITES", "SIZE", "USES", "TAGS", "SOURCE"]
    assert head.split() == columns
    assert row.split() == ["one", "1", "-", "-", "lora", "4", "4", "8.2", "kB", "0", "first", "good", adapter]

    shown = run("show", "one").out
    assert f"folder   {adapter}" in shown
    assert "rank 4 at 4 sites" in shown

    removed = run("remove", "one")
    assert (removed.code, removed.out) == (0, f"one@1: removed; its files stay in {adapter}\n")
    assert run("show", "one").code == 1
    assert run("list", "--json").json() == []


def test_json_has_the_whole_record(run, on_base, adapter):
    added = run("add", "one", adapter, "--json", *on_base).json()
    assert added["name"] == "one"
    assert len(added["digest"]) == 64
    assert "resident" not in added
    assert run("show", "one", "--json").json() == added
    assert run("list", "--json").json() == [added]
    assert run("remove", "one", "--json").json() == [added]


@pytest.mark.usefixtures("two_added")
def test_list_filters_by_tag_and_says_on_stderr_that_it_is_empty(run, registry):
    assert [info["name"] for info in run("list", "--tag", "first", "--json").json()] == ["one"]
    empty = run("list", "--tag", "none")
    assert (empty.code, empty.out) == (0, "")
    assert str(registry) in empty.err


@pytest.mark.usefixtures("two_added")
def test_the_registry_flag_wins_over_the_environment(run, tmp_path):
    assert run("list", "--json", "--registry", str(tmp_path / "other.sqlite3")).json() == []


def test_what_the_proof_found_odd_is_printed(run, on_base, tmp_path):
    added = run("add", "idle", save_adapter(tmp_path / "idle", scale=0), *on_base)
    assert added.code == 0
    assert added.err.startswith("adapter-hub: warning: ")
    warning = added.err.removeprefix("adapter-hub: warning: ").strip()
    assert f"warnings  {warning}" in run("show", "idle").out


def test_another_base_is_refused_unless_allowed(run, on_base, tmp_path):
    folder = save_adapter(tmp_path / "foreign", base_model_name_or_path="somebody/else")
    refused = run("add", "foreign", folder, *on_base)
    assert (refused.code, refused.out) == (1, "")
    assert "somebody/else" in refused.err
    assert run("list", "--json").json() == []
    assert run("add", "foreign", folder, "--allow-base-mismatch", *on_base).code == 0


@pytest.mark.usefixtures("two_added")
def test_the_list_in_pages(run):
    assert [info["name"] for info in run("list", "--limit", "1", "--json").json()] == ["one"]
    assert [info["name"] for info in run("list", "--limit", "1", "--after", "one", "--json").json()] == ["two"]
    ended = run("list", "--after", "two")
    assert (ended.code, ended.out) == (0, "")
    assert "after 'two'" in ended.err
    assert run("list", "--limit", "0").code == 1


@pytest.mark.parametrize("name", ["base", "a b", "../x", "", "one@2"])
def test_a_name_that_cannot_be_one_is_refused(run, on_base, adapter, name):
    ran = run("add", name, adapter, *on_base)
    assert (ran.code, ran.err.count("\n")) == (1, 1)


def test_a_missing_folder_fails_before_the_base_is_loaded(run, monkeypatch):
    monkeypatch.setattr("adapter_hub.hub.load_base", lambda *_, **__: pytest.fail("the base was loaded"))
    ran = run("add", "one", "./nowhere")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "./nowhere does not exist" in ran.err


def test_a_missing_base_is_one_line(run, adapter):
    ran = run("add", "one", adapter, "--base", "./no-such-base")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "no-such-base" in ran.err


@pytest.mark.parametrize(("flag", "value"), [("--dtype", "int3"), ("--device", "abacus")])
def test_bad_base_flags_are_usage_errors(run, adapter, base_folder, flag, value):
    ran = run("add", "one", adapter, "--base", base_folder, flag, value)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert value in ran.err


@pytest.mark.usefixtures("two_added")
@pytest.mark.parametrize("argv", [("show", "zero"), ("remove", "zero")])
def test_an_unknown_name_is_one_line_that_names_known_ones(run, argv):
    ran = run(*argv)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "adapter-hub: error: no adapter is registered as 'zero'. Registered: one, two.\n"


@pytest.mark.parametrize("argv", [("list",), ("show", "x"), ("remove", "x"), ("add", "x", "."), ("generate", "hi")])
def test_a_file_that_is_no_registry_is_one_line(run, registry, argv):
    registry.write_bytes(b"this is no database, it only lies where one should be" * 40)
    ran = run(*argv)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert str(registry) in ran.err


def test_a_registry_of_a_newer_version_is_one_line(run, registry):
    database = sqlite3.connect(registry)
    database.execute("PRAGMA user_version = 999")
    database.close()
    ran = run("list")
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "999" in ran.err


def test_what_a_file_does_not_say_is_stated_by_option(run, on_base, adapter, tmp_path):
    bare = str(shutil.copy(Path(adapter) / "adapter_model.safetensors", tmp_path / "bare.safetensors"))
    refused = run("add", "one", bare, *on_base)
    assert refused.code == 1
    assert "--option lora_alpha=N" in refused.err
    added = run("add", "one", bare, "--option", "lora_alpha=8", "--option", "use_rslora=true", *on_base)
    assert (added.code, added.err) == (0, "")
    assert "stated   lora_alpha=8\n         use_rslora=True" in run("show", "one").out
    assert run("show", "one", "--json").json()["options"] == {"lora_alpha": 8, "use_rslora": True}
    contradicted = run("add", "two", adapter, "--option", "lora_alpha=9", *on_base)
    assert contradicted.code == 1
    assert "the adapter's own file says 8" in contradicted.err


@pytest.mark.parametrize("option", ["lora_alpha", "=8", "lora_alpha="])
def test_an_option_that_states_nothing_is_a_wrong_flag(run, adapter, option):
    ran = run("inspect", adapter, "--option", option)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "is not NAME=VALUE" in ran.err
