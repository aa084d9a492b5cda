"""References: what they mean, and what is said of texts that mean nothing."""

from __future__ import annotations

import pytest

from adapter_hub.errors import NotRegistered, RequestError
from adapter_hub.store import Reference, check_alias, check_name, check_tags
from adapter_hub.store.reference import parse_name


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("sql", Reference("sql")),
        ("sql@2", Reference("sql", 2)),
        ("sql@999999999", Reference("sql", 999999999)),
        ("sql:stable", Reference("sql", alias="stable")),
        ("a.b-c_d:v1.2", Reference("a.b-c_d", alias="v1.2")),
        ("base2", Reference("base2")),
        ("x:base", Reference("x", alias="base")),
    ],
)
def test_a_reference_is_read_and_written_alike(text, meant):
    assert Reference.parse(text) == meant
    assert str(meant) == text
    assert meant.is_name == (text == meant.name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name, name@2 or name:alias"),
        ("a b", "name, name@2 or name:alias"),
        ("../x", "name, name@2 or name:alias"),
        ("@2", "name, name@2 or name:alias"),
        ("sql\n", "name, name@2 or name:alias"),
        ("sql@", "a version, a number from 1, as in sql@2"),
        ("sql@0", "a version, a number from 1"),
        ("sql@02", "a version, a number from 1"),
        ("sql@-1", "a version, a number from 1"),
        ("sql@1000000000", "a version, a number from 1"),
        ("sql@²", "a version, a number from 1"),
        ("sql@stable", "a version, a number from 1"),
        ("sql@1:stable", "a version, a number from 1"),
        ("sql:", "one alias, as in sql@2 or sql:stable"),
        ("sql:a:b", "one alias"),
        ("sql:a@2", "one alias"),
        ("base", "give None, or no adapter"),
        ("base@1", "give None, or no adapter"),
        (7, "None is the base"),
        (["sql"], "None is the base"),
    ],
)
def test_what_is_no_reference_is_told_how_to_write_one(text, said):
    with pytest.raises(NotRegistered, match="names no adapter") as caught:
        Reference.parse(text)
    assert said in caught.value.hint


def test_what_concerns_all_versions_takes_the_name_alone():
    assert parse_name("sql") == "sql"
    for text in ("sql@2", "sql:stable"):
        with pytest.raises(RequestError, match=r"one version.*'sql'"):
            parse_name(text)


@pytest.mark.parametrize("name", ["", "base", "a b", "a/b", "a*2", "a+b", "-a", "é", "x" * 129, "a\n"])
def test_names_that_cannot_be(name):
    with pytest.raises(RequestError, match="cannot be the name"):
        check_name(name)


@pytest.mark.parametrize("name", ["sql@2", "sql:stable"])
def test_nobody_else_numbers_versions(name):
    with pytest.raises(RequestError, match="the registry numbers its versions"):
        check_name(name)


def test_names_aliases_and_tags_that_can_be():
    for name in ("a", "A.b-c_9", "9", "x" * 128):
        check_name(name)
    for alias in ("stable", "v2", "2024.1", "base"):
        check_alias(alias)
    check_tags(["work", "été", "two words", "x" * 128])


@pytest.mark.parametrize("alias", ["", "2", "a b", "a@2", "a:b", "-a", "x" * 129])
def test_aliases_that_cannot_be(alias):
    with pytest.raises(RequestError, match="cannot be an alias"):
        check_alias(alias)


@pytest.mark.parametrize("tag", ["", "a\nb", "\x1f", "x" * 129])
def test_tags_that_cannot_be(tag):
    with pytest.raises(RequestError, match="cannot be a tag"):
        check_tags(["fine", tag])
