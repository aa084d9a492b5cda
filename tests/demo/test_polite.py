"""The polite task: one opening for each kind of sentence, and the matter of the sentence kept."""

import re
from collections import Counter

import pytest

from demo.tasks import get_task, polite_phrases

OPENINGS = {
    "Could you please tell me": "?",
    "Could you please": "?",
    "May I please": "?",
    "I am afraid": ".",
    "I am sorry, but I cannot": ".",
    "I would like": ", please.",
}


def kind_of(answer):
    return next(opening for opening in OPENINGS if answer.startswith(opening + " "))


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_every_answer_follows_one_convention(split):
    examples = get_task("polite").examples(split, 2000, 1)
    kinds = Counter(kind_of(example.answer) for example in examples)
    assert set(kinds) == set(OPENINGS)
    assert min(kinds.values()) > 100
    for example in examples:
        assert example.answer.endswith(OPENINGS[kind_of(example.answer)])
        assert kind_of(example.answer).removesuffix(" tell me") in example.prompt, "the prompt states the convention"


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_the_matter_is_kept_word_for_word(split):
    for example in get_task("polite").examples(split, 2000, 2):
        blunt = example.prompt.split("\n\n", 1)[1]
        kind = kind_of(example.answer)
        matter = example.answer.removeprefix(kind).removesuffix(OPENINGS[kind]).strip()
        if kind == "Could you please tell me":
            assert sorted(words_of(matter.removeprefix("whether "))) == sorted(
                words_of(re.sub(r"^(Tell me|Quick|Hey): ", "", blunt))
            )
        else:
            matter = matter.removeprefix("not ")
            assert matter.lower() in blunt.lower(), example


def words_of(text):
    return re.findall(r"\w+", text.lower())


def test_the_splits_share_no_phrase():
    pools = [pool for pool in vars(polite_phrases).values() if isinstance(pool, dict) and "held_out" in pool]
    assert len(pools) == 9
    trained = {phrase for pool in pools for phrase in pool["train"]}
    for pool in pools:
        assert not trained & set(pool["held_out"])
        assert len(set(pool["train"])) == len(pool["train"])
