"""``versions``, ``rollback``, ``alias``, ``unalias``, ``pin``, ``unpin``; and versions in the other commands."""

import shutil
from pathlib import Path

import pytest

from .conftest import save_adapter


@pytest.fixture
def folders(tmp_path):
    return [save_adapter(tmp_path / f"v{k}", seed=k) for k in (1, 2)]


@pytest.fixture
def two_versions(run, on_base, folders):
    """The name ``one`` has version 1 with the alias ``stable``, and version 2."""
    assert run("add", "one", folders[0], "--tag", "first", *on_base).code == 0
    assert run("alias", "one", "stable").code == 0
    second = run("add", "one", folders[1], *on_base)
    assert (second.code, second.out.split(":")[0]) == (0, "one@2")


@pytest.mark.usefixtures("two_versions")
def test_versions_are_listed_with_what_stands_for_them(run, folders):
    head, first, second = run("versions", "one").out.splitlines()
    assert head.split() == "VERSION CURRENT ALIASES PINNED VARIANT SIZE ADDED USES LAST USED SOURCE".split()
    assert first.split()[:3] + first.split()[-1:] == ["1", "-", "stable", folders[0]]
    assert second.split()[:3] + second.split()[-1:] == ["2", "yes", "-", folders[1]]
    records = run("versions", "one", "--json").json()
    assert [(r["version"], r["current"], r["aliases"], r["tags"]) for r in records] == [
        (1, False, ["stable"], ["first"]),
        (2, True, [], ["first"]),
    ]
    assert run("list", "--json").json() == records[1:]
    assert run("list", "--json", "--all-versions").json() == records
    assert [line.split()[1] for line in run("list", "--all-versions").out.splitlines()] == ["VERSION", "(1)", "2"]
    assert run("list", "--all-versions", "--after", "one@1", "--json").json() == records[1:]
    assert run("show", "one:stable", "--json").json() == records[0]


@pytest.mark.usefixtures("two_versions")
def test_show_tells_which_version_it_is(run):
    shown = run("show", "one:stable").out
    assert "version  1; one@2 is current" in shown
    assert "aliases  one:stable" in shown
    assert "used     never" in shown
    assert "pinned" not in shown
    assert "version  2, the current one" in run("show", "one").out


@pytest.mark.usefixtures("two_versions")
def test_rollback_and_forth(run):
    assert run("rollback", "one").out == "one is one@1 now\n"
    last = run("rollback", "one")
    assert (last.code, last.err.count("\n")) == (1, 1)
    assert "no version of adapter 'one' comes before one@1" in last.err
    assert run("rollback", "one", "2", "--json").json()["version"] == 2
    assert "no version 9" in run("rollback", "one", "9").err


@pytest.mark.usefixtures("two_versions")
def test_nobody_is_rolled_back_to_files_that_changed_or_are_gone(run, folders):
    shutil.copy(Path(folders[1]) / "adapter_model.safetensors", folders[0])
    changed = run("rollback", "one")
    assert (changed.code, changed.out) == (1, "")
    assert "'one@1'" in changed.err
    assert "not what was registered" in changed.err
    shutil.rmtree(folders[0])
    assert "are gone from" in run("rollback", "one", "1").err
    assert run("show", "one", "--json").json()["version"] == 2


@pytest.mark.usefixtures("two_versions")
def test_known_content_stays_its_version_and_the_user_is_told(run, on_base, folders):
    again = run("add", "one", folders[0], *on_base)
    assert (again.code, again.out.split(":")[0]) == (0, "one@1")
    assert "one stays one@2" in again.err
    assert "adapter-hub rollback one 1" in again.err


@pytest.mark.usefixtures("two_versions")
def test_aliases_move_and_go(run):
    assert run("alias", "one", "stable", "2").out == "one:stable is one@2 now\n"
    assert run("alias", "one", "canary", "1", "--json").json()["aliases"] == ["canary"]
    assert run("unalias", "one", "canary").out == "one:canary is gone; one@1 stays\n"
    assert "no alias 'canary'. Aliases: one:stable" in run("unalias", "one", "canary").err
    assert "cannot be an alias" in run("alias", "one", "7").err
    assert "'one@2' is one version" in run("alias", "one@2", "x").err


@pytest.mark.usefixtures("two_versions")
def test_pins(run, on_base, folders):
    assert run("pin", "one").out == "one@2 is pinned; the pin moves with one\n"
    assert run("pin", "one:stable").out == "one@1 is pinned\n"
    assert run("unpin", "one@2").out == "one@2 stays pinned with its name; adapter-hub unpin one takes that back\n"
    assert [record["pinned"] for record in run("versions", "one", "--json").json()] == [True, True]
    assert run("unpin", "one").out == "one@2 is not pinned\n"
    assert run("pin", "one@1", "--json").json()["pinned"]
    assert run("unpin", "one@1", "--json").json()["pinned"] is False
    assert run("add", "two", folders[0], "--pin", "--json", *on_base).json()["pinned"]
    assert "pinned   yes" in run("show", "two").out


@pytest.mark.usefixtures("two_versions")
def test_one_version_is_removed_or_all(run, folders):
    kept = run("remove", "one@1")
    assert (kept.code, kept.out) == (1, "")
    assert "one@1 is what one:stable stands for" in kept.err
    assert run("unalias", "one", "stable").code == 0
    assert run("rollback", "one").code == 0
    gone = run("remove", "one@1")
    assert (gone.out, gone.err) == (f"one@1: removed; its files stay in {folders[0]}\n", "one is one@2 now\n")
    assert [record["version"] for record in run("remove", "one", "--json").json()] == [2]
    assert run("versions", "one").code == 1


@pytest.mark.usefixtures("two_versions")
def test_answers_come_from_the_version_that_was_asked_for(run, on_base):
    asked = ["one", "one@1", "one:stable"]
    flags = [flag for name in asked for flag in ("--adapter", name)]
    answers = run("generate", "hi", *flags, "--max-new-tokens", "8", "--json", *on_base).json()
    assert [answer["adapter"] for answer in answers] == asked
    assert answers[1]["text"] == answers[2]["text"] != answers[0]["text"]
    assert [record["uses"] for record in run("versions", "one", "--json").json()] == [2, 1]
    assert "no version 7" in run("generate", "hi", "--adapter", "one@7", *on_base).err
