"""Tokens from logits: each row by its own choices, whatever its neighbours chose."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from adapter_hub.engine.choosing import Chooser, choose
from adapter_hub.engine.sampling import Sampling
from adapter_hub.errors import RequestError

VOCABULARY = 50
CHOICES = [
    {},
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 5},
    {"temperature": 1.3, "top_p": 0.6},
    {"temperature": 1.0, "min_p": 0.2},
    {"temperature": 0.9, "top_k": 20, "top_p": 0.8, "min_p": 0.05},
    {"repetition_penalty": 1.7},
    {"presence_penalty": 1.5, "frequency_penalty": 0.5},
    {"logit_bias": {7: 100.0}},
]


def _rows(choices=CHOICES):
    return [Chooser(Sampling(**given), [1, 2, 3, 3], [4, 4, 9], seed=k) for k, given in enumerate(choices)]


def _logits(rows, seed=0):
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


def test_greedy_takes_the_likeliest():
    logits = _logits(4)
    assert torch.equal(choose(logits, _rows([{}] * 4)), logits.argmax(-1))


def test_a_row_is_chosen_as_it_is_alone():
    logits = _logits(len(CHOICES))
    together = choose(logits, _rows()).tolist()
    alone = [choose(logits[k : k + 1], [row]).item() for k, row in enumerate(_rows())]
    assert together == alone


def test_logits_are_not_written():
    logits = _logits(len(CHOICES))
    before = logits.clone()
    choose(logits, _rows())
    assert torch.equal(logits, before)


@pytest.mark.parametrize("given", CHOICES[1:6], ids=str)
def test_draws_have_the_probabilities_that_transformers_gives(given):
    logits = _logits(1, seed=3)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(given["temperature"])])
    warpers += [TopKLogitsWarper(given["top_k"])] if "top_k" in given else []
    warpers += [TopPLogitsWarper(given["top_p"])] if "top_p" in given else []
    warpers += [MinPLogitsWarper(given["min_p"])] if "min_p" in given else []
    expected = warpers(None, logits).softmax(-1)[0]
    count = 4000
    row = Chooser(Sampling(**given), [], [], seed=1)
    drawn = Counter(choose(logits.expand(count, -1), [row] * count).tolist())
    found = torch.tensor([drawn[token] / count for token in range(VOCABULARY)])
    assert (found[expected == 0] == 0).all()
    # Five standard deviations of the share of a token with probability p.
    assert ((found - expected).abs() <= 5 * (expected * (1 - expected) / count).sqrt() + 1e-9).all()


def test_penalties_are_those_of_transformers_and_openai():
    logits, rows = _logits(2), _rows(CHOICES[6:8])
    seen = torch.tensor([[1, 2, 3, 3, 4, 4, 9]])
    repeated = RepetitionPenaltyLogitsProcessor(1.7)(seen, logits[:1].clone())
    counted = logits[1:].clone()
    counted[0, 4] -= 1.5 + 2 * 0.5
    counted[0, 9] -= 1.5 + 0.5
    assert choose(logits, rows).tolist() == [repeated.argmax().item(), counted.argmax().item()]
    row = Chooser(Sampling(repetition_penalty=1000.0), [int(logits[0].argmax())], [])
    assert choose(logits[:1], [row]).item() != logits[0].argmax()


def test_a_bias_decides_and_one_beyond_the_vocabulary_does_nothing():
    logits = _logits(1)
    assert choose(logits, _rows([{"logit_bias": {7: 100.0}}])).item() == 7
    assert choose(logits, _rows([{"logit_bias": {10**6: 100.0}}])).item() == logits.argmax()
    banned = choose(logits, _rows([{"logit_bias": {int(logits.argmax()): -100.0}}])).item()
    assert banned == logits[0].topk(2).indices[1]


def test_a_temperature_of_next_to_nothing_is_greedy():
    logits = _logits(3)
    rows = _rows([{"temperature": 1e-300}, {"temperature": 1e-6}, {"temperature": 1e-5}])
    assert torch.equal(choose(logits, rows), logits.argmax(-1))


def test_tokens_that_are_impossible_are_never_drawn():
    logits = torch.full((1, VOCABULARY), float("-inf"))
    logits[0, [5, 6]] = 0.0
    row = Chooser(Sampling(temperature=1.0), [], [], seed=2)
    for share in (0.0, 0.25, 0.5, 1 - 2**-53):
        row.draw = lambda share=share: share
        assert choose(logits, [row]).item() == (5 if share < 0.5 else 6)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_p", 1.5),
        ("presence_penalty", 3.0),
        ("frequency_penalty", -2.5),
        ("logit_bias", {3: 200.0}),
        ("seed", "x"),
        ("logprobs", 21),
        ("logprobs", True),
        ("n", 0),
        ("temperature", float("nan")),
        ("repetition_penalty", float("inf")),
        ("repetition_penalty", 1e-300),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(RequestError, match=name):
        Sampling(**{name: value})
