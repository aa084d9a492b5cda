"""Things to report on in the ``tags`` task, by kind, and what happens to them."""

from __future__ import annotations

from dataclasses import dataclass

from .task import Split
from .wording import lines, pieces


@dataclass(frozen=True)
class Kind:
    """Things of one sort. ``is_bare`` ones, like prices, take no article; ``requests`` have them as {t}."""

    name: str
    is_bare: bool
    news: tuple[str, ...]
    requests: tuple[str, ...]


def _topics(text: str) -> tuple[str, ...]:
    """Every first word of a line with every second one, and the words that stand alone on a line."""
    topics: list[str] = []
    for line in lines(text):
        firsts, _, seconds = line.partition(":")
        topics += [f"{a} {b}".strip() for a in pieces(firsts) for b in pieces(seconds)]
    return tuple(topics)


def _kind(name: str, news: str, requests: str, *, is_bare: bool = False) -> Kind:
    return Kind(name, is_bare, lines(news), lines(requests))


WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
OPENINGS = lines("""
    News in brief:
    Hello everyone!
    This is new since {day}:
    What you should know this week:
    Here is what happened by {hour} today.
    Before I forget it:
    As of {day}:
    Good morning, all!
""")
CLOSINGS = lines("""
    More on {day}.
    That is all for now.
    Thanks for reading.
    See you on {day}!
    Have a good week.
    We will write again in {month}.
    Nothing else is new.
    Until tomorrow!
""")
KINDS = (
    _kind(
        "place",
        """
        reopens on {day}
        is closed until {month}
        is being repaired
        will be painted in {month}
        has been locked since {day}
        will be torn down in {month}
        was cleaned on {day}
        opens at {hour} from now on
        had {n} visitors on {day}
        is {n} years old this {month}
        was damaged on {day} night
        stays open until {hour}
        looks better than ever
        """,
        """
        nobody may enter {t} on {day}
        we have to clean {t} on {day}
        you can visit {t} from {hour}
        they want to rebuild {t} in {month}
        """,
    ),
    _kind(
        "event",
        """
        starts at {hour}
        has been moved to {day}
        is cancelled
        was a success
        takes place on {day}
        is sold out
        begins {n} minutes later than planned
        ended at {hour} on {day}
        will be held again in {month}
        drew {n} people on {day}
        has {n} free places left
        lasts until {hour}
        was great fun
        """,
        """
        do not forget {t} on {day}
        you can sign up for {t} until {day}
        we are looking forward to {t}
        they had to put off {t} until {month}
        """,
    ),
    _kind(
        "document",
        """
        is ready
        must be finished by {day}
        is missing
        was sent to everyone on {day}
        needs {n} more pages
        will be updated in {month}
        is due on {day}
        was approved on {day}
        contains {n} mistakes
        has been checked twice
        came back on {day}
        can be read from {hour} today
        """,
        """
        please read {t} by {day}
        we need {t} before {hour}
        nobody has seen {t} since {day}
        you should sign {t} by {day}
        """,
    ),
    _kind(
        "device",
        """
        is broken
        has been repaired
        will be replaced in {month}
        makes a strange noise
        stopped at {hour} today
        works again
        has been out of order since {day}
        needs cleaning
        was switched off on {day}
        is {n} years old
        costs too much
        arrived on {day}
        """,
        """
        please do not use {t} before {day}
        somebody has to look at {t}
        we bought {t} in {month}
        you must switch off {t} by {hour}
        """,
    ),
    _kind(
        "goods",
        """
        have arrived
        are sold out
        will be replaced in {month}
        were stolen on {day}
        come on {day} at {hour}
        are on sale until {day}
        were counted on {day}
        have been cleaned
        are wet
        were put away in {month}
        are {n} years old
        were ordered on {day}
        """,
        """
        please bring back {t} by {day}
        we need {n} of {t}
        somebody has to collect {t} on {day}
        you will find {t} here from {day}
        """,
    ),
    _kind(
        "prices",
        """
        rise by {n} per cent in {month}
        fell by {n} per cent
        stay the same until {month}
        have doubled since {month}
        were lowered on {day}
        will change in {month}
        went up again
        are too high
        are lower than in {month}
        """,
        """
        everyone complains about {t}
        they want to lower {t} in {month}
        nothing will change {t} before {month}
        """,
        is_bare=True,
    ),
)
TOPICS: dict[str, dict[Split, tuple[str, ...]]] = {
    "place": {
        "train": _topics("""
            harbour|village|station|hospital|castle|town|river|park: café|bridge|kiosk|car park|gate|footpath
            school|museum|hotel|company|church: library|hall|garden|shop|entrance|kitchen|cellar|tower
            bakery|lighthouse|bus station|town hall|swimming pool|post office|tennis court|wind farm|old mill:
            north|south|east|west: gate|tunnel|wing|exit|beach
        """),
        "held_out": _topics("""
            airport|university|zoo|marina|theatre|monastery: fountain|terrace|staircase|chapel|courtyard|corridor
            planetarium|fire station|ice rink|cable car|butcher's shop|observatory|dairy farm:
        """),
    },
    "event": {
        "train": _topics("""
            spring|summer|winter|charity|village|school: concert|fair|market|ball|race
            chess|tennis|swimming|football|cooking|dance: tournament|lesson|course|evening|final
            team|project|sales|parents'|budget: meeting|conference|talk
            film night|book club|blood drive|job fair|open day|rehearsal|election|wine tasting:
        """),
        "held_out": _topics("""
            autumn|harvest|jazz|kite: festival|parade|carnival
            karate|poetry|pottery|sailing: workshop|contest|seminar
            quiz night|flea market|marathon|graduation|fire drill|barbecue:
        """),
    },
    "document": {
        "train": _topics("""
            budget|travel|holiday|sales|project|staff|safety: report|plan|list|calendar|folder
            tax|order|visitor|sick leave|course: form
            annual report|price list|guest list|menu|map|price tag|newsletter|contract|exam paper|phone list:
            course|holiday|company|book: brochure|catalogue|leaflet
        """),
        "held_out": _topics("""
            insurance|research|energy|garden|music: manual|survey|handbook|questionnaire
            lease|press release|timetable|petition|building permit|birth certificate|diploma|blueprint:
        """),
    },
    "device": {
        "train": _topics("""
            office|kitchen|cellar|hall|garage|bathroom: printer|lamp|heater|radio|phone|clock|fan
            coffee|washing|sewing|ticket|copying: machine
            lift|alarm|boiler|projector|lawn mower|snow plough|fridge|photocopier|web server|tractor:
            delivery|school|company: van|bus
        """),
        "held_out": _topics("""
            attic|lobby|studio|laundry: speaker|thermostat|camera|dehumidifier
            vending|ironing: machine
            dishwasher|forklift|scanner|water pump|microwave|escalator|smoke detector:
        """),
    },
    "goods": {
        "train": _topics("""
            garden|school|park|office: chairs|benches|lamps|umbrellas|tables
            concert|train|theatre|museum: tickets|posters
            winter|football|work|children's: boots|jackets|shoes
            cookery books|spare keys|mountain bikes|apple trees|team shirts|paper cups|tulip bulbs|solar panels:
        """),
        "held_out": _topics("""
            camping|picnic|hospital: blankets|baskets|trolleys
            circus|ferry|opera: passes|flyers
            flower pots|rowing boats|street signs|rain barrels|beehives|violins|crutches:
        """),
    },
    "prices": {
        "train": _topics("""
            bus|train|ferry|tram|taxi: fares
            milk|bread|coffee|fuel|land|egg|sugar: prices
            parking|library|club|entrance|school: fees
            interest rates|house rents|heating costs|rice prices:
        """),
        "held_out": _topics("""
            water|electricity|postal: charges|rates
            airline|hotel|internet: tariffs
            wages|road tolls|church taxes|property values:
        """),
    },
}
