"""``keys``: the secret is printed once and opens what was asked for."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from adapter_hub.commands.keys import moment
from adapter_hub.errors import SettingError
from adapter_hub.store import Registry


def test_a_key_is_made_listed_and_revoked(run, registry: Path):
    limits = ("--requests-per-minute", "60", "--tokens-per-minute", "5000", "--concurrent", "2")
    made = run("keys", "create", "team", "--scope", "infer", "--adapter", "sql-*", "--adapter", "med", *limits)
    secret = made.out.strip()
    assert (made.code, made.out) == (0, f"{secret}\n")
    assert "infer on the adapters sql-* med" in made.err
    with closing(Registry(registry)) as opened:
        found = opened.keys.find(secret)
        assert (found.scopes, found.adapters) == (("infer",), ("sql-*", "med"))
        assert (found.requests_per_minute, found.tokens_per_minute, found.concurrent) == (60, 5000, 2)
    listed = run("keys", "list")
    assert secret not in listed.out
    assert secret[:12] in listed.out
    assert "60 requests/min, 5000 tokens/min, 2 at once" in listed.out
    assert "in force" in listed.out
    assert run("keys", "revoke", "team").code == 0
    with closing(Registry(registry)) as opened:
        assert opened.keys.find(secret) is None
    assert "revoked" in run("keys", "list").out
    assert run("keys", "revoke", "team").code == 1


def test_json_has_the_secret_once(run):
    made = run("keys", "create", "boss", "--scope", "admin", "--scope", "infer", "--expires", "30d", "--json").json()
    assert made["secret"].startswith(f"ahk_{made['id']}_")
    assert made["scopes"] == ["infer", "admin"]
    assert made["expires_at"] > made["created_at"]
    (listed,) = run("keys", "list", "--json").json()
    assert "secret" not in listed
    assert listed["expires_at"] == made["expires_at"]


def test_what_cannot_be_is_refused(run):
    assert run("keys").code == 2
    assert run("keys", "create", "x", "--scope", "root").code == 2
    assert "is past" in run("keys", "create", "x", "--expires", "2020-01-01").err
    assert "concurrent is -1" in run("keys", "create", "x", "--concurrent", "-1").err
    assert run("keys", "list", "--json").json() == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90d", 90 * 86400),
        ("12h", 12 * 3600),
        ("30m", 1800),
        ("1970-01-12T13:46:41", 1),
        ("1970-01-12T15:46:41+02:00", 1),
    ],
)
def test_a_time_is_a_span_or_a_moment(text, seconds):
    assert moment(text, 1_000_000.0) == 1_000_000.0 + seconds


@pytest.mark.parametrize("text", ["soon", "", "5", "0d", "-1d", "999999d999", "1970-01-01", "99999-01-01"])
def test_other_times_are_none(text):
    with pytest.raises(SettingError):
        moment(text, 1_000_000.0)


@pytest.mark.usefixtures("two_added")
def test_defaults_are_set_shown_and_cleared(run):
    assert run("defaults", "one").out == "one@1 has no defaults of its own\n"
    flags = ("--system-prompt", "Be brief.", "--temperature", "0.5", "--stop", "END", "--max-new-tokens", "9")
    assert run("defaults", "one", *flags).code == 0
    shown = run("show", "one").out
    assert 'system_prompt="Be brief."' in shown
    assert 'stop=["END"]' in shown
    assert "temperature=0.5" in shown
    assert run("defaults", "one", "--clear", "stop", "--clear", "system_prompt", "--json").json()["defaults"] == {
        "temperature": 0.5,
        "max_new_tokens": 9,
    }
    listed = {record["name"]: record["defaults"] for record in json.loads(run("list", "--json").out)}
    assert listed == {"one": {"temperature": 0.5, "max_new_tokens": 9}, "two": {}}


@pytest.mark.usefixtures("two_added")
def test_a_default_that_cannot_be_names_its_field(run):
    for flags, word in (
        (("--temperature", "-1"), "temperature"),
        (("--clear", "heat"), "'heat'"),
        (("--clear", "top-p", "--top-p", "0.5"), "top_p is given and cleared"),
    ):
        ran = run("defaults", "one", *flags)
        assert (ran.code, word in ran.err) == (2, True)
    assert run("defaults", "nobody", "--temperature", "1").code == 1
