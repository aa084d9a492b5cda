"""The task times: each text is read by a parser of its own and says the time of its answer."""

import re

import pytest

from demo.tasks import get_task

WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
WORDS += "seventeen eighteen nineteen".split()
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
PARTS = {"in the morning": range(1, 12), "in the afternoon": range(12, 18), "in the evening": range(18, 22)}


def number(words):
    """The number below sixty that one or two words say."""
    first, _, second = words.partition("-")
    return TENS[first] + (WORDS.index(second) if second else 0) if first in TENS else WORDS.index(first)


def spoken(words, part):
    """Hour and minute of a spoken time in a part of the day."""
    words = words.removesuffix(" o'clock").removeprefix("a ")
    minutes, kind, hour = re.fullmatch(r"(?:(.+?)(?: minutes?)? (past|to) )?(.+)", words).groups()
    if kind is None:
        hour, _, minutes = hour.partition(" ")
        minute = number(minutes) if minutes else 0
    else:
        minute = {"half": 30, "quarter": 15}.get(minutes) or number(minutes)
    time = (number(hour) * 60 + (-minute if kind == "to" else minute)) % 720
    hours = PARTS.get(part, (22, 23, 0))
    (found,) = [t for t in (time, time + 720) if t // 60 in hours]
    return divmod(found, 60)


def read(text):
    """The one time in a text."""
    text = text.lower()
    if "noon" in text.replace("afternoon", "") or "midnight" in text:
        return (0, 0) if "midnight" in text else (12, 0)
    if found := re.search(r"(\d+)(?:[.:](\d\d))? ([ap])\.?m", text):
        hour, minute, half = found.groups()
        return int(hour) % 12 + (12 if half == "p" else 0), int(minute or 0)
    if found := re.search(r"(\d\d)\.(\d\d)|(\d\d)(\d\d) hours", text):
        hour, minute = (int(digits) for digits in found.groups() if digits)
        return hour, minute
    part = re.search(r"in the (?:morning|afternoon|evening)|at night", text)
    number_word = r"(?:twenty|thirty|forty|fifty)(?:-\w+)?|" + "|".join(sorted(WORDS, key=len, reverse=True))
    clock = rf"(?:(?:a quarter|quarter|half|(?:{number_word})(?: minutes?)?) (?:past|to) )?(?:{number_word})"
    clock += rf"(?: o'clock| (?:{number_word}))?"
    (words,) = re.findall(rf"\b({clock}) {part[0]}", text)
    return spoken(words, part[0])


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_the_text_says_the_time_of_the_answer(split):
    for example in get_task("times").examples(split, 2000, 1):
        text = example.prompt.split("\n\n", 1)[1]
        assert "{:02}:{:02}".format(*read(text)) == example.answer, example


def test_no_time_is_asked_for_in_both_splits():
    train, held_out = (
        {e.answer for e in get_task("times").examples(split, 2000, 2)} for split in ("train", "held_out")
    )
    assert not train & held_out
