"""The dates task: every text names the day of the answer, and no text can be read as another day."""

import re
from datetime import date

import pytest

from demo.tasks import get_task
from demo.tasks.dates_forms import FRAMES_AHEAD, FRAMES_PAST

MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
WEEKDAYS = "Mon Tue Wed Thu Fri Sat Sun".split()
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth twenty-first twenty-second twenty-third twenty-fourth "
    "twenty-fifth twenty-sixth twenty-seventh twenty-eighth twenty-ninth thirtieth thirty-first"
).split()
MONTH_NAME = r"(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)[a-z]*|[A-Z]{3}"


def text_of(example):
    return example.prompt.split("\n\n", 1)[1]


def read(text):
    """The date in a text, by other means than those that wrote it."""
    if found := re.search(r"\b(\d{4})([/.-])(\d{1,2})\2(\d{1,2})\b", text):
        year, _, month, day = found.groups()
        return date(int(year), int(month), int(day))
    if found := re.search(r"\b(\d{1,2})([/.])(\d{1,2})\2(\d{4})\b", text):
        one, _, other, year = found.groups()
        low, high = sorted((int(one), int(other)))
        assert high > 12 >= low
        return date(int(year), low, high)
    month = next(word for word in re.findall(rf"\b(?:{MONTH_NAME})\b", text) if word[:3].lower() in MONTHS)
    before, after = re.split(rf"\b{month}\b", text, maxsplit=1)
    day_before = re.search(r"(\d{1,2}(?:st|nd|rd|th)?|[a-z-]+(?:st|nd|rd|th))(?: of)?[ /-]$", before)
    year_before = re.search(r"(\d{4})[ -]$", before)
    day_after = re.match(r"\.?[ /-](?:the )?(\d{1,2}(?:st|nd|rd|th)?|[a-z-]+(?:st|nd|rd|th))\b", after)
    if year_before:
        year, day = year_before.group(1), day_after.group(1)
    else:
        year = re.search(r"\b(?:19|20)\d\d\b", after).group(0)
        day = (day_before or day_after).group(1)
    number = ORDINALS.index(day) + 1 if day in ORDINALS else int(re.sub(r"\D", "", day))
    return date(int(year), MONTHS.index(month[:3].lower()) + 1, number)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_the_text_names_the_day_of_the_answer(split):
    for example in get_task("dates").examples(split, 3000, 1):
        assert read(text_of(example)) == date.fromisoformat(example.answer), example


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_the_weekday_named_is_that_of_the_date(split):
    named = 0
    for example in get_task("dates").examples(split, 2000, 2):
        if found := re.search(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun)(?:[a-z]*day)?\b", text_of(example)):
            named += 1
            assert WEEKDAYS.index(found.group(1)) == date.fromisoformat(example.answer).weekday(), example
    assert named > 200


def test_every_ordinal_has_its_ending():
    for example in get_task("dates").examples("train", 3000, 3):
        for number, suffix in re.findall(r"\b(\d+)(st|nd|rd|th)\b", text_of(example)):
            wanted = "th" if number in ("11", "12", "13") else {"1": "st", "2": "nd", "3": "rd"}.get(number[-1], "th")
            assert suffix == wanted, example


def test_the_splits_share_no_date_and_no_sentence():
    task = get_task("dates")
    days = {split: {example.answer for example in task.examples(split, 2000, 4)} for split in ("train", "held_out")}
    assert not days["train"] & days["held_out"]
    for frames in (FRAMES_PAST, FRAMES_AHEAD):
        assert not set(frames["train"]) & set(frames["held_out"])
