"""What may be registered over HTTP: no path, link or name leads out of the operator's folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapter_hub.config import ServerSettings
from adapter_hub.errors import AccessError, SettingError
from adapter_hub.server import folders as module
from adapter_hub.server.folders import Folders


@pytest.fixture
def place(tmp_path):
    """Two operator's folders with an adapter each, and something outside."""
    for name in ("one/sql", "two/med", "outside/other"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "weights").write_bytes(b"x")
    return tmp_path


@pytest.fixture
def folders(place):
    return make(place)


def make(place: Path, **options: str) -> Folders:
    return Folders(ServerSettings(adapter_folders=f"{place / 'one'}, {place / 'two'}", **options))


def test_folders_are_separated_by_commas_or_as_in_path(place):
    named = os.pathsep.join((str(place / "one"), "", str(place / "two")))
    assert Folders(ServerSettings(adapter_folders=named)).roots == make(place).roots == (place / "one", place / "two")
    assert Folders(ServerSettings()).roots == ()
    with pytest.raises(SettingError, match=r"names .*three, which is no folder"):
        Folders(ServerSettings(adapter_folders=str(place / "three")))


def test_what_lies_in_the_folders_may_be_named_by_path_or_below_them(place, folders):
    for ref in (str(place / "one" / "sql"), "sql", "./sql", "sql/../sql", f"{place}/two/../one/sql"):
        assert folders.reference(ref) == str(place / "one" / "sql")
    assert folders.reference("med/weights") == str(place / "two" / "med" / "weights")


@pytest.mark.parametrize(
    "ref",
    [
        *("/etc", "/etc/passwd", "..", ".", "../outside/other", "sql/../../outside/other", "~", "~root/x", "/"),
        *("sql\0", "\0", "x" * 5000, "file:///etc/passwd", "s3://bucket/x", "//etc//passwd", "\ud800", " ", "nothing"),
        *("org/name", "org/name/..", "a/../..", "..%2fetc"),
    ],
)
def test_what_leads_out_is_refused_whether_it_is_there_or_not(folders, ref):
    with pytest.raises(AccessError, match=r"adapter_folders|allowed_repos"):
        folders.reference(ref)


def test_the_folders_themselves_are_no_adapters(place, folders):
    for ref in (place / "one", place / "two" / ".", place):
        with pytest.raises(AccessError):
            folders.reference(str(ref))


def test_links_are_followed_before_anybody_judges(place, folders):
    (place / "one" / "out").symlink_to(place / "outside" / "other")
    (place / "one" / "circle").symlink_to(place / "one" / "circle")
    (place / "one" / "across").symlink_to(place / "two" / "med")
    (place / "outside" / "in").symlink_to(place / "one" / "sql")
    for ref in ("out", "out/weights", str(place / "one" / "out"), "circle"):
        with pytest.raises(AccessError):
            folders.reference(ref)
    assert folders.reference("across") == str(place / "two" / "med")
    assert folders.reference(str(place / "outside" / "in")) == str(place / "one" / "sql")


def test_links_inside_an_adapter_may_not_lead_out_either(place, folders):
    adapter = place / "one" / "sql"
    (adapter / "config.json").symlink_to("/etc/hostname")
    for ref in ("sql", "sql/weights"):
        with pytest.raises(AccessError, match="leads out"):
            folders.reference(ref)
    (adapter / "config.json").unlink()
    (adapter / "config.json").symlink_to(place / "two" / "med" / "weights")
    assert folders.reference("sql")
    (place / "two" / "deep").mkdir()
    (place / "two" / "deep" / "x").symlink_to("/etc/hostname")
    (adapter / "checkpoint-1").symlink_to(place / "two" / "deep")
    with pytest.raises(AccessError, match="leads out"):
        folders.reference("sql")


def test_pipes_and_crowds_are_refused(place, folders, monkeypatch):
    os.mkfifo(place / "one" / "sql" / "pipe")
    with pytest.raises(AccessError, match="neither a file nor a folder"):
        folders.reference("sql")
    (place / "one" / "sql" / "pipe").unlink()
    monkeypatch.setattr(module, "MAX_ENTRIES", 5)
    for k in range(5):
        (place / "one" / "sql" / f"f{k}").touch()
    with pytest.raises(AccessError, match="more than 5 files"):
        folders.reference("sql")
    (place / "two" / "med" / "loop").symlink_to(place / "two" / "med")
    with pytest.raises(AccessError, match="more than 5 files"):
        folders.reference("med")


def test_hub_repos_need_a_pattern_and_no_namesake_on_the_disk(place, monkeypatch):
    folders = make(place, allowed_repos="my-org/*, other/one")
    for ref in ("my-org/sql", "other/one"):
        assert folders.reference(ref) == ref
    for ref in ("my-org/../x", "other/two", "my-orgx/sql", "my-org", "my-org/a/b", "MY-ORG/sql", "my-org/.."):
        with pytest.raises(AccessError):
            folders.reference(ref)
    # A source would take it for the path that it also is.
    monkeypatch.chdir(place)
    (place / "my-org" / "sql").mkdir(parents=True)
    with pytest.raises(AccessError, match="allowed_repos"):
        folders.reference("my-org/sql")


PARTS = st.sampled_from(
    ["..", ".", "sql", "med", "out", "weights", "~", "", "one", "outside", "other", "etc", "a\0", "é"]
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(parts=st.lists(PARTS, max_size=8), begin=st.sampled_from(["", "/", "//", "./", "ROOT/", "PLACE/"]))
def test_no_path_ends_outside(place, folders, parts, begin):
    link = place / "one" / "out"
    if not link.is_symlink():
        link.symlink_to(place / "outside")
    ref = begin.replace("ROOT", str(place / "one")).replace("PLACE", str(place)) + "/".join(parts)
    try:
        found = Path(folders.reference(ref))
    except AccessError:
        return
    assert any(found.is_relative_to(root) and found != root for root in folders.roots)
    assert found == found.resolve()
