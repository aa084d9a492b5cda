"""Defaults of requests: which there are, and which values they can have."""

from __future__ import annotations

from dataclasses import fields

import pytest

from adapter_hub import Sampling
from adapter_hub.engine import check_defaults
from adapter_hub.errors import RequestError

GOOD = {
    "system_prompt": "Be brief.",
    "max_new_tokens": 5,
    "temperature": 1,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "logit_bias": {"3": 1, 4: -1.5},
    "stop": ("END", "\n"),
    "seed": 0,
    "logprobs": 2,
    "n": 2,
    "ignore_eos": True,
}


def test_every_field_of_sampling_can_be_a_default_but_the_form_of_a_text():
    assert {*GOOD, "json_schema", "regex"} == {"system_prompt", *(entry.name for entry in fields(Sampling))}
    checked = check_defaults(GOOD)
    assert checked == {**GOOD, "logit_bias": {3: 1.0, 4: -1.5}, "stop": ["END", "\n"]}
    assert check_defaults(dict.fromkeys(GOOD)) == dict.fromkeys(GOOD)  # all of them to go


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_new_tokens", value) for value in (0, 1.5, "5", True)),
        *(("temperature", value) for value in (-0.1, float("nan"), float("inf"), "hot", True)),
        *(("stop", value) for value in ("", [""], [1], {"a": 1}, ["\ud800"])),
        *(("logit_bias", value) for value in ({"x": 1}, {"3": 1000}, {"3": "much"}, [3])),
        *(("system_prompt", value) for value in ("", 5, ["x"], "\ud800", "x" * 100_001)),
        *(("seed", value) for value in (0.5, "x")),
        *(("logprobs", value) for value in (True, 100)),
        *(("ignore_eos", value) for value in (1, "yes")),
        *((name, value) for name in ("heat", "regex", "json_schema") for value in ("a", None)),
    ],
)
def test_a_value_that_cannot_be_names_its_field(name, value):
    with pytest.raises(RequestError, match=name):
        check_defaults({name: value})
