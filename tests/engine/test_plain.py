"""Stop strings in a stream: what could begin one is held back, what turned out not to is passed on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from adapter_hub.engine.plain import hold_plain, until_stop
from adapter_hub.engine.sampling import Completion, Sampling
from adapter_hub.errors import RequestError


@pytest.mark.parametrize(
    ("pieces", "stop", "text"),
    [
        (["ab", "cd"], (), "abcd"),
        (["ab", "cd", "ef"], ("cd",), "ab"),
        (["abc", "def"], ("cd",), "ab"),
        (["a", "b", "c", "x"], ("cd",), "abcx"),
        (["ab"], ("abc",), "ab"),
        (["stop here"], ("stop",), ""),
        (["x\n", "\ny"], ("\n\n", "y"), "x"),
        ([], ("a",), ""),
    ],
)
def test_the_text_ends_before_the_first_stop_string(pieces, stop, text):
    given = list(until_stop(iter(pieces), stop))
    assert "".join(given) == text
    assert all(given), "no empty pieces"


def test_pieces_are_passed_on_as_they_come():
    source = iter(["one ", "two ", "three"])
    stream = until_stop(source, ())
    assert next(stream) == "one "
    assert next(source) == "two ", "nothing was read ahead"


@pytest.mark.parametrize("given", [{"json_schema": {"type": "object"}}, {"regex": "a"}])
def test_what_generate_cannot_hold_to_is_refused_by_name(given):
    (name,) = given
    with pytest.raises(RequestError, match=f"{name} cannot be chosen"):
        hold_plain(SimpleNamespace(model=None), Sampling(**given))


def test_a_completion_counts_its_tokens():
    done = Completion(text="x", adapter="a", token_ids=(1, 2), prompt_tokens=3, finish_reason="stop")
    assert done.as_dict()["completion_tokens"] == done.completion_tokens == 2
