"""Numbers in words, read back by a parser of their own; the task numbers stands on them."""

import re

import pytest

from demo.tasks import get_task
from demo.tasks.number_words import Spelling, in_hundreds, in_words

VALUES = {
    **dict(zip("zero one two three four five six seven eight nine ten".split(), range(11), strict=True)),
    **dict(zip("eleven twelve thirteen fourteen fifteen sixteen".split(), range(11, 17), strict=True)),
    **dict(zip("seventeen eighteen nineteen".split(), range(17, 20), strict=True)),
    **dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10), strict=True)),
    "a": 1,
}
SCALES = {"hundred": 100, "thousand": 1000}


def read(words):
    """The number that a run of number words says."""
    total = current = 0
    for word in words:
        if word == "thousand":
            total, current = total + current * 1000, 0
        elif word == "hundred":
            current *= 100
        elif word != "and":
            current += VALUES[word]
    return total + current


def numbers_in(text):
    """Every number in words in a text; "and" and "a" count only inside one."""
    words = re.findall(r"[a-z]+|[,.?!]", text.lower().replace("-", " "))
    found, run = [], []
    for word, following in zip(words, [*words[1:], "."], strict=True):
        inside = word in VALUES or word in SCALES or (word == "and" and run and following in VALUES)
        if word == "a" and following not in SCALES:
            inside = False
        if inside:
            run.append(word)
        elif run and word != ",":
            found.append(read(run))
            run = []
    return [*found, *([read(run)] if run else [])]


@pytest.mark.parametrize("spelling", [Spelling(), Spelling(" ", " "), Spelling(one="a", comma=",")])
def test_words_read_back_as_the_number(spelling):
    for number in [*range(1200), *range(9980, 10120), 100_000, 101_001, 410_012, 999_999]:
        assert read(re.findall("[a-z]+", in_words(number, spelling))) == number


def test_words_of_some_numbers():
    assert in_words(4012) == "four thousand and twelve"
    assert in_words(101_230, Spelling(one="a", comma=",")) == "a hundred and one thousand, two hundred and thirty"
    assert in_words(1100, Spelling(one="a")) == "a thousand one hundred"
    assert in_hundreds(1250) == "twelve hundred and fifty"


def test_numbers_out_of_range_are_refused():
    for number in (-1, 1_000_000):
        with pytest.raises(ValueError, match="not between"):
            in_words(number)
    for number in (900, 2000, 2050, 10_000):
        with pytest.raises(ValueError, match="not counted in hundreds"):
            in_hundreds(number)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_the_text_says_the_number_of_the_answer_and_no_other(split):
    for example in get_task("numbers").examples(split, 3000, 1):
        text = example.prompt.split("\n\n", 1)[1]
        assert numbers_in(text) == [int(example.answer)], example


def test_no_number_is_asked_for_in_both_splits():
    task = get_task("numbers")
    train, held_out = ({e.answer for e in task.examples(split, 4000, 2)} for split in ("train", "held_out"))
    assert not train & held_out
