"""The tasks whose answer is one of a few labels, sentiment and triage, and the fragments they are made of."""

import re
from collections import Counter

import pytest

from demo.tasks import get_task, sentiment_opinions, triage_messages
from demo.tasks.sentiment_subjects import SUBJECTS
from demo.tasks.triage_problems import PROBLEMS, TEAMS

LABELS = {"sentiment": {"positive", "negative", "neutral"}, "triage": set(TEAMS)}


def leaves(pool):
    """The entries of a split in a pool that may be sorted by label first."""
    if set(pool) == {"train", "held_out"}:
        yield pool
    else:
        for inner in pool.values():
            yield from leaves(inner)


def pools():
    for module in (sentiment_opinions, triage_messages):
        for pool in vars(module).values():
            if isinstance(pool, dict) and pool and set(pool) <= {"train", "held_out", "positive", "negative", *TEAMS}:
                yield from leaves(pool)
    yield from leaves(PROBLEMS)


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_labels_are_balanced_and_stand_in_the_prompt(name, split):
    examples = get_task(name).examples(split, 1000, 1)
    counts = Counter(example.answer for example in examples)
    assert set(counts) == LABELS[name]
    assert all(0.1 < count / 1000 < 0.6 for count in counts.values()), counts
    for example in examples:
        instruction = example.prompt.split("\n\n")[0]
        assert all(label in instruction for label in LABELS[name])


def test_the_splits_share_no_fragment_and_no_subject():
    found = list(pools())
    assert len(found) > 20
    for pool in found:
        assert not set(pool["train"]) & set(pool["held_out"])
        assert len(set(pool["train"])) == len(pool["train"])
    names = {split: {subject.name for subject in some} for split, some in SUBJECTS.items()}
    facts = {split: {fact for subject in some for fact in subject.facts} for split, some in SUBJECTS.items()}
    assert not names["train"] & names["held_out"]
    assert not facts["train"] & facts["held_out"]


def test_every_label_has_enough_to_say():
    for team in TEAMS:
        assert len(PROBLEMS[team]["train"]) >= 30
        assert len(PROBLEMS[team]["held_out"]) >= 8
    for some in SUBJECTS.values():
        for subject in some:
            assert len(subject.aspects) >= 6
            assert len(subject.facts) >= 6


def test_neutral_reviews_hold_no_word_of_opinion():
    opinion = re.compile(r"\b(love|hate|good|bad|great|awful|best|worst|happy|disappoint\w*|recommend|like|enjoy\w*)\b")
    for split in ("train", "held_out"):
        for example in get_task("sentiment").examples(split, 1000, 3):
            if example.answer == "neutral":
                assert not opinion.search(example.prompt.split("\n\n")[1].lower()), example
