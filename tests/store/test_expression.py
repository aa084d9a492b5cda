"""Weighted sums of adapters as requests write them."""

from __future__ import annotations

import random

import pytest

from adapter_hub.errors import RequestError
from adapter_hub.store.expression import MAX_TERMS, Expression, is_expression, sum_digest


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("sql*0.7+med*0.3", {"sql": 0.7, "med": 0.3}),
        ("sql*0.5", {"sql": 0.5}),
        (" sql * .5 + med ", {"sql": 0.5, "med": 1.0}),
        ("a+b", {"a": 1.0, "b": 1.0}),
        ("a*-0.5+b*+2.", {"a": -0.5, "b": 2.0}),
        ("a*1e+2+b*1E-3", {"a": 100.0, "b": 0.001}),
        ("sql@2*0.5+med:stable*0.5", {"sql@2": 0.5, "med:stable": 0.5}),
        ("my-lora.v2*2+e5*0.1", {"my-lora.v2": 2.0, "e5": 0.1}),
        ("a*0.25+a*0.5", {"a": 0.75}),
        ("a*0", {"a": 0.0}),
    ],
)
def test_an_expression_is_read(text, weights):
    assert is_expression(text)
    assert Expression.parse(text).weights == weights


def test_a_plain_reference_is_no_expression():
    assert not any(map(is_expression, ["sql", "sql@2", "sql:stable", "a-b_c.d"]))


def test_equal_sums_are_written_alike_and_read_back():
    written = str(Expression.parse("med*.3 + sql*7e-1+sql@2"))
    assert written == "med*0.3+sql*0.7+sql@2*1.0"
    assert Expression.parse(written) == Expression.parse("sql@2*1+sql*0.7+med*0.30")


def test_names_come_without_versions():
    assert Expression.parse("sql@2*0.5+med:stable*0.5+sql*1").names == {"sql", "med"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sql*", "from 'sql\\*' on"),
        ("*0.5", "from '\\*0.5' on"),
        ("sql*0.7+", "from '' on"),
        ("sql*0.7 med*0.3", "cannot be read"),
        ("0.7*sql", "cannot be read"),
        ("sql*0.7*2", "cannot be read"),
        ("sql**2", "cannot be read"),
        ("a/b*2", "cannot be read"),
        ("sql*nan", "weight of 'sql' is nan"),
        ("sql*-inf", "weight of 'sql' is -inf"),
        ("sql*1e999", "weight of 'sql' is inf"),
        ("+".join(f"a{k}*0.1" for k in range(MAX_TERMS + 1)), "at most 16"),
    ],
)
def test_what_is_none_is_refused_with_its_place(text, said):
    with pytest.raises(RequestError, match=said):
        Expression.parse(text)


def test_the_digest_is_that_of_contents_and_weights_in_any_order():
    parts = [(f"{k:064x}", k / 7) for k in range(1, 6)]
    first = sum_digest(parts)
    for seed in range(5):
        shuffled = random.Random(seed).sample(parts, len(parts))
        assert sum_digest(shuffled) == first
    assert sum_digest([*parts, ("f" * 64, 0.0)]) == first, "what comes to nothing says nothing"
    assert sum_digest([("a" * 64, 0.25), ("a" * 64, 0.75)]) == "a" * 64
    assert len({first, sum_digest(parts[1:]), sum_digest([("a" * 64, 0.5)]), sum_digest([])}) == 4
