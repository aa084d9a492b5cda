"""Rows that keep to a schema or an expression, beside rows that do not, with the tokenizer of the real base."""

from __future__ import annotations

import json
import sys

import jsonschema_rs
import pytest
import torch
from transformers import AutoTokenizer

from adapter_hub.base.default import default_base_folder
from adapter_hub.engine.choosing import Chooser, choose
from adapter_hub.engine.grammar import constraint_of
from adapter_hub.engine.prompts import Voice, base_voice
from adapter_hub.engine.sampling import Sampling
from adapter_hub.errors import RequestError
from adapter_hub.testing import tiny_tokenizer

VOCABULARY = 49216  # a few more than the tokenizer has, as padded heads are
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def voice():
    tokenizer = AutoTokenizer.from_pretrained(default_base_folder())
    return base_voice(tokenizer, None, len(tokenizer))


def _chooser(voice, seed=0, **given):
    sampling = Sampling(seed=seed, **given)
    constraint = constraint_of(voice, sampling)
    return Chooser(sampling, [1, 2], [], seed, None if constraint is None else constraint.fresh())


def _run(voice, rows, steps=200, seed=0):
    """Let random logits write: what the rows that stop have written, and the tokens of the others."""
    generator = torch.Generator().manual_seed(seed)
    open_rows = list(rows)
    for _ in range(steps):
        logits = torch.randn(len(rows), VOCABULARY, generator=generator) * 3
        tokens = choose(logits, rows).tolist()
        for row, token in zip(rows, tokens, strict=True):
            if row not in open_rows:
                continue
            if token in voice.stop_ids:
                open_rows.remove(row)
            else:
                row.generated.append(token)
        if not [row for row in open_rows if row.constraint is not None]:
            break
    return [voice.decode(row.generated) for row in rows]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_random_logits_write_what_the_schema_accepts(voice, temperature):
    rows = [_chooser(voice, k, json_schema=PERSON, temperature=temperature) for k in range(8)]
    texts = _run(voice, rows)
    for text in texts:
        jsonschema_rs.validate(PERSON, json.loads(text))
    assert len(set(texts)) == len(texts)


def test_neighbours_without_a_grammar_are_as_they_are_alone(voice):
    free = [{}, {"temperature": 0.8, "top_p": 0.9}, {"presence_penalty": 1.0}]
    alone = [_chooser(voice, k, **given) for k, given in enumerate(free)]
    mixed = [_chooser(voice, k, **given) for k, given in enumerate(free)]
    held = [_chooser(voice, 7, regex="[a-z]{2,9}"), _chooser(voice, 8, json_schema=PERSON, logprobs=2)]
    logits = torch.randn(5, VOCABULARY, generator=torch.Generator().manual_seed(3)) * 3
    before = logits.clone()
    expected = [choose(logits[k : k + 1], [row]).item() for k, row in enumerate(alone)]
    tokens = choose(logits, [*mixed, *held])
    assert tokens.tolist()[:3] == expected
    assert torch.equal(logits, before)
    assert voice.decode([int(tokens[3])]).islower()
    assert voice.decode([int(tokens[4])]).startswith("{")
    # As everywhere, probabilities are those of the model, before anything was ruled out.
    assert held[1].logprobs[0].logprob == pytest.approx(float(logits[4].log_softmax(-1)[tokens[4]]), abs=1e-5)


def test_a_text_that_is_complete_can_only_end(voice):
    row = _chooser(voice, regex="(yes|no)")
    row.generated += voice.tokenizer("yes")["input_ids"]
    logits = torch.full((1, VOCABULARY), 5.0)
    logits[0, sorted(voice.stop_ids)] = -5.0
    assert int(choose(logits, [row])) in voice.stop_ids


def test_penalties_and_biases_do_not_open_what_is_ruled_out(voice):
    banned = voice.tokenizer("no")["input_ids"][0]
    row = _chooser(voice, regex="(yes|maybe)", logit_bias={banned: 100.0})
    assert voice.decode([int(choose(torch.zeros(1, VOCABULARY), [row]))]) in (
        "y",
        "ye",
        "yes",
        "m",
        "may",
        "maybe",
        "ma",
    )


def test_a_text_that_has_left_its_grammar_is_an_error_that_names_the_field(voice):
    row = _chooser(voice, regex="(yes|no)")
    row.generated += voice.tokenizer("perhaps")["input_ids"]
    with pytest.raises(RequestError, match=r"^regex: "):
        choose(torch.zeros(1, VOCABULARY), [row])


def test_one_compiled_grammar_serves_many_sequences_apart(voice):
    sampling = Sampling(json_schema=PERSON)
    first, second = constraint_of(voice, sampling), constraint_of(voice, sampling)
    assert first.matcher is second.matcher
    here, there = first.fresh(), second.fresh()
    here.follow(voice.tokenizer('{"name"')["input_ids"])
    assert here.bits() != there.bits()
    assert there.bits() == first.fresh().bits()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"json_schema": {"type": "nope"}}, r"json_schema: Invalid type: nope"),
        ({"json_schema": {"type": "array", "uniqueItems": True}}, "json_schema: Unimplemented keys.*uniqueItems"),
        ({"json_schema": {"$ref": "http://example.org/x"}}, "json_schema: .*http://example.org/x"),
        ({"json_schema": "{"}, "json_schema: "),
        ({"json_schema": {"type": "object", "x": object()}}, "json_schema: .*not JSON serializable"),
        ({"json_schema": {"$ref": "#"}}, r"json_schema: NoExtensionBias\. See"),
        ({"regex": "(a"}, "regex: .*unclosed group"),
    ],
)
def test_what_cannot_be_held_to_is_refused_by_name(voice, given, said):
    with pytest.raises(RequestError, match=f"(?s){said}"):
        constraint_of(voice, Sampling(**given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"regex": "a", "json_schema": {}}, "regex"),
        ({"regex": "a", "ignore_eos": True}, "ignore_eos"),
        ({"json_schema": {}, "ignore_eos": True}, "ignore_eos"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(given, said):
    with pytest.raises(RequestError, match=said):
        Sampling(**given)


def test_a_tokenizer_that_llguidance_cannot_read_is_refused(voice):
    tiny = Voice(tiny_tokenizer(), None, frozenset({2}), 99)
    with pytest.raises(RequestError, match="tokenizer"):
        constraint_of(tiny, Sampling(regex="a"))
    endless = Voice(voice.tokenizer, None, frozenset(), voice.vocabulary)
    with pytest.raises(RequestError, match="token that ends a text"):
        constraint_of(endless, Sampling(regex="a"))


def test_without_llguidance_the_error_says_what_to_install(voice, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    apart = Voice(voice.tokenizer, None, frozenset({0, 2}), voice.vocabulary)
    with pytest.raises(RequestError, match="llguidance"):
        constraint_of(apart, Sampling(regex="a"))
