"""The tags task: three things, found in the text in their order, and no word of what is said about them."""

import re

import pytest

from demo.tasks import get_task
from demo.tasks.tags_topics import CLOSINGS, KINDS, OPENINGS, TOPICS


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_tags_stand_in_the_text_in_their_order(split):
    for example in get_task("tags").examples(split, 2000, 1):
        text = example.prompt.split("\n\n", 1)[1].lower()
        tags = example.answer.split(", ")
        assert len(set(tags)) == 3
        places = []
        for tag in tags:
            found = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(tag)}(?!\w)", text)]
            places.append(next(place for place in found if not places or place > places[-1]))
        assert places == sorted(places), example


def test_nothing_else_in_a_text_could_be_a_tag():
    every = {topic for kind in TOPICS.values() for topics in kind.values() for topic in topics}
    any_topic = re.compile(rf"\b({'|'.join(map(re.escape, every))})\b")
    around = [*OPENINGS, *CLOSINGS, *(words for kind in KINDS for words in kind.news + kind.requests)]
    for words in around:
        assert not any_topic.search(words), words


def test_the_splits_share_no_thing_and_no_kind_shares_one_with_another():
    seen = set()
    for kind in TOPICS.values():
        for topics in kind.values():
            assert len(set(topics)) == len(topics)
            assert not seen & set(topics)
            seen |= set(topics)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_a_command_is_never_joined_to_what_stands_before_it(split):
    for example in get_task("tags").examples(split, 2000, 2):
        assert not re.search(r"(, (and|while|but)|;) (please|do not)", example.prompt), example


def test_order_counts_and_spaces_and_capitals_do_not():
    score = get_task("tags").score
    assert score("town hall, bus fares, map", "Town hall,bus fares, map.")
    assert not score("town hall, bus fares, map", "bus fares, town hall, map")
    assert not score("town hall, bus fares, map", "the town hall, bus fares, map")
    assert not score("town hall, bus fares, map", "town hall, bus fares")
