"""Patterns of a config: PEFT's meaning, within a bounded time."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapter_hub.errors import UnsupportedFeature
from plugins.peft_patterns import PatternTable

ATOMS = st.sampled_from(
    "a b . \\. \\d \\w \\W \\b ^ $ | ( (?: (?= (?! (?<= ) * + ? {2} {1,} {,2} {1,2} { } [ ] [ab] [^a.] [a-b] - _ 0 é "
    "{e} []a] (?i) (?P<n> \\1 *+ (?> [[:alpha:]] \\p{L}".split()
)
PATHS = "a b a.b ab a.a.b a_b a.0.b é.a ab.ab a-b aa.bb.0 x.a{e} a]b a} model.layers.0.q_proj".split()


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(pattern=st.lists(ATOMS, min_size=1, max_size=6).map("".join))
@example(pattern="a.b")
@example(pattern="^model.layers.0.q_proj$")
@example(pattern=r"layers\.[0-9]+\.q_proj")
def test_a_pattern_matches_what_it_matches_in_peft_or_is_refused(pattern):
    try:
        table = PatternTable("alpha_pattern", {pattern: 3})
    except UnsupportedFeature:
        return  # what it says is asked below
    for path in PATHS:
        meant = re.match(rf"(.*\.)?({pattern})$", path) is not None
        assert (table.value_of(path) == 3) == meant, path


@pytest.mark.parametrize(
    "pattern", ["q_proj", ".*q_proj", "layers.0.q_proj", r"layers\.\d+\.q_proj", "(q|v)_proj", "^model.*"]
)
def test_ordinary_patterns_are_served(pattern):
    assert PatternTable("alpha_pattern", {"k_proj": 1, pattern: 3, ".+": 5}).value_of("model.layers.0.q_proj") == 3


@pytest.mark.parametrize("pattern", [r"(.|\w*?)+[^j]", "(.+?|.+)+[0-9]", "(|.{2,}?)+[^j]"])
def test_a_pattern_that_takes_exponential_time_is_refused_by_name(pattern):
    table = PatternTable("alpha_pattern", {pattern: 3})
    with pytest.raises(UnsupportedFeature, match=rf"alpha_pattern takes more than 1 s.*{re.escape(repr(pattern))}"):
        table.value_of("model.layers.0.self_attn.and_a_longer_name_for_faster_machines.q_proj")


@pytest.mark.parametrize(
    "pattern", ["((a{9999}){9999}){9999}", "(x*){4000000}", "a" * 2000 + "*", "(" * 600, "q_proj{e}"]
)
def test_a_pattern_that_is_too_large_is_refused_before_it_is_compiled(pattern):
    with pytest.raises(UnsupportedFeature, match="alpha_pattern"):
        PatternTable("alpha_pattern", {pattern: 3})


def test_thousands_of_names_are_matched_in_time():
    names = {f"model.layers.{k}.mlp.{part}_proj": k for k in range(3000) for part in ("up", "down")}
    table = PatternTable("alpha_pattern", names)
    assert [table.value_of(f"model.layers.{k}.mlp.up_proj") for k in range(0, 3000, 30)] == list(range(0, 3000, 30))
