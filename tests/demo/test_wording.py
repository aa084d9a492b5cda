"""The English of the demo's tasks: articles, capitals, plurals, and text without gaps left in it."""

import re

import pytest

from demo.tasks import all_tasks
from demo.tasks.splits import drawn_for, split_of
from demo.tasks.wording import an, plural, same_words, sentence

NEW = sorted({"dates", "sentiment", "tags", "units", "polite", "numbers", "times", "triage", "shell"})
# Said with another sound than that of their first letter.
CLOSED_VOWELS = ("uni", "use", "eu", "one")
OPEN_CONSONANTS = ("hour", "honest")


def wrong_articles(text):
    for article, word in re.findall(r"(?<![\w'.-])([Aa]n?) ([A-Za-z]+)", text):
        lower = word.lower()
        is_open = (lower[0] in "aeiou" and not lower.startswith(CLOSED_VOWELS)) or lower.startswith(OPEN_CONSONANTS)
        if is_open != (article.lower() == "an"):
            yield f"{article} {word}"


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_texts_are_whole_and_clean(name, split):
    for example in all_tasks()[name].examples(split, 2000, 7):
        text = example.prompt.split("\n\n", 1)[1]
        assert not re.search(r"[{}]|  |\.\.| [,.?!;](?=\s|$)", text.replace(" = ? ", " is ")), text
        assert text == text.strip()
        assert not re.match(r"[a-z]", text) or name == "units" or re.match(r"[a-z]\S*\.\w", text), text
        if name != "shell":
            assert not list(wrong_articles(text)), text


@pytest.mark.parametrize("name", NEW)
def test_there_are_enough_different_prompts(name):
    task = all_tasks()[name]
    assert len(task.examples("train", 12_000, 0)) == 12_000
    assert len(task.examples("held_out", 600, 0)) == 600


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("apple", "an apple"),
        ("map", "a map"),
        ("uniform", "a uniform"),
        ("hour", "an hour"),
        ("e-reader", "an e-reader"),
    ],
)
def test_articles(words, right):
    assert an(words) == right


def test_plurals_and_capitals():
    assert [
        plural(noun) for noun in ("map", "box", "berry", "toy", "brush")
    ] == "maps boxes berries toys brushes".split()
    assert sentence("the map is here") == "The map is here"
    assert sentence("") == ""


def test_a_final_full_stop_and_case_do_not_count():
    assert same_words("I am afraid you are late.", "i am afraid  you are late")
    assert not same_words("5.5 m", "55 m")


def test_about_one_value_in_eight_is_held_out():
    held_out = sum(split_of(number) == "held_out" for number in range(8000))
    assert 800 < held_out < 1200
    numbers = iter(range(100))
    assert split_of(drawn_for("held_out", lambda: next(numbers))) == "held_out"
