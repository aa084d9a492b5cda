"""Written forms of a date, and sentences to put one in."""

from __future__ import annotations

import random
from datetime import date

from .task import Split
from .wording import lines

_MONTHS = "January February March April May June July August September October November December".split()
_SHORT_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth"
).split()

# In words: day, month and year are filled in, a weekday may stand in front.
_DAY_FIRST = ("{day} {month} {year}", "{day} {month}, {year}", "{nth} {month} {year}")
_MONTH_FIRST = ("{month} {day}, {year}", "{month} {nth}, {year}", "{month} {day} {year}", "{year} {month} {day}")
_SPOKEN = (
    "the {nth} of {month} {year}",
    "the {nth} of {month}, {year}",
    "the {ordinal} of {month} {year}",
    "the {ordinal} of {month}, {year}",
    "{month} the {nth}, {year}",
    "{month} the {ordinal}, {year}",
)
_HYPHENED = ("{day}-{short}-{year}", "{day:02}-{short}-{year}", "{day}/{short}/{year}", "{year}-{short}-{day:02}")
# In digits: year first, or the day told from the month by being above twelve.
_YEAR_FIRST = ("{year}/{m}/{day}", "{year}/{m:02}/{day:02}", "{year}.{m:02}.{day:02}", "{year}-{m}-{day}")
_LATE_DAY = ("{day}/{m}/{year}", "{day}.{m}.{year}", "{day}.{m:02}.{year}", "{m}/{day}/{year}", "{m:02}/{day}/{year}")
_WEEKDAY_SHARE = 0.35
_FORMS = (_DAY_FIRST, _MONTH_FIRST, _SPOKEN, _HYPHENED, _YEAR_FIRST, _LATE_DAY)
_SHARES = (25, 25, 22, 8, 10, 10)

FRAMES_PAST: dict[Split, tuple[str, ...]] = {
    "train": lines("""
        {d}
        {d}: {n} visitors.
        The bridge opened on {d}.
        She was born on {d}.
        On {d} the museum got a new roof.
        The contract was signed on {d} by both sides.
        Invoice {number} is dated {d}.
        Our first shop, with {n} seats, opened on {d}.
        He left the company on {d}, after {n} months.
        The letter of {d} never reached us.
        Photo taken on {d} at {hour}.
        They married on {d} in a small village.
        The last tram ran on {d}.
        Version {n} came out on {d}.
        The parcel was posted on {d} and weighed {n} kilograms.
        On {d}, {n} people voted against the plan.
        Date of purchase: {d}
        Born: {d}
        The minutes of {d} have {n} pages.
        It snowed here on {d}.
        The storm of {d} brought down {n} trees.
        Ticket {number} was closed on {d} at {hour}.
        My grandfather came to this town on {d}.
        The concert on {d} was sold out.
        We last heard from the ship on {d}.
        Sample {number}, collected {d}
        The file was last changed on {d}.
        Entry {number} of the diary, written on {d}, is about the harvest.
        The school closed its doors on {d}.
        The patent was granted on {d}.
        Room {n} was painted on {d}.
        The record was set on {d} by a girl from Oslo.
    """),
    "held_out": lines("""
        The tower was finished on {d}.
        Receipt {number} was printed on {d}.
        On {d} the lake froze over.
        The first issue appeared on {d} and cost {n} cents.
        Arrived: {d}, box {n}
        The judge ruled on {d} that the fence could stay.
        Her passport was issued on {d}.
        The fire of {d} destroyed {n} barns.
        I moved into flat {n} on {d}.
        The orchestra first played here on {d}.
    """),
}
FRAMES_AHEAD: dict[Split, tuple[str, ...]] = {
    "train": lines("""
        {d}
        The meeting moved to {d}.
        Please answer by {d}.
        The offer ends on {d}.
        Your appointment is on {d} at {hour}.
        On {d} the office stays closed.
        We fly on {d} from gate {n}.
        The lease of flat {n} runs until {d}.
        Rent for room {number} is due on {d}.
        The course starts on {d} and has {n} places.
        Deadline: {d}
        Best before {d}
        The exam is on {d} in room {number}.
        Can we meet on {d} instead?
        The pass is valid until {d}.
        Order {number} will be delivered on {d}.
        The road will be blocked on {d} from {hour}.
        Are you free on {d}?
        The next eclipse here is on {d}.
        The guarantee expires on {d}.
    """),
    "held_out": lines("""
        The fair opens on {d} at {hour}.
        Pay the {n} euros before {d}.
        Your library card expires on {d}.
        The talk was put off until {d}.
        Next inspection: {d}
        Will you be back on {d}?
        The {n} new flats will be ready on {d}.
    """),
}


def write_date(rng: random.Random, day: date) -> str:
    """``day`` in one of the written forms, each of which has one reading only."""
    kind = rng.choices(_FORMS, _SHARES)[0]
    if kind is _LATE_DAY and day.day <= 12:
        kind = _YEAR_FIRST
    # Nobody writes "the 3rd of Feb." or "Feb. the third".
    month = _MONTHS[day.month - 1] if kind is _SPOKEN else _month(rng, day)
    short = _SHORT_MONTHS[day.month - 1]
    text = rng.choice(kind).format(
        day=day.day,
        nth=_nth(day.day),
        ordinal=_ordinal(day.day),
        m=day.month,
        month=month,
        short=rng.choice((short, short, short.upper())),
        year=day.year,
    )
    if kind in (_DAY_FIRST, _MONTH_FIRST, _SPOKEN) and not text[:4].isdigit() and rng.random() < _WEEKDAY_SHARE:
        weekday = _WEEKDAYS[day.weekday()]
        return f"{rng.choice((weekday, weekday, weekday[:3], weekday[:3] + '.'))}{rng.choice((', ', ' '))}{text}"
    return text


def _month(rng: random.Random, day: date) -> str:
    name, short = _MONTHS[day.month - 1], _SHORT_MONTHS[day.month - 1]
    if rng.random() < 0.55 or name == short:
        return name
    return rng.choice((short, f"{short}.", *(("Sept", "Sept.") if short == "Sep" else ())))


def _nth(number: int) -> str:
    suffix = "th" if 11 <= number <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _ordinal(number: int) -> str:
    if number <= 20:
        return _ORDINALS[number - 1]
    return "thirtieth" if number == 30 else f"{'twenty' if number < 30 else 'thirty'}-{_ORDINALS[number % 10 - 1]}"
