"""What the ``sentiment`` task's reviews are about: its sides, and facts that say nothing about its worth."""

from __future__ import annotations

from dataclasses import dataclass

from .task import Split
from .wording import pieces


@dataclass(frozen=True)
class Subject:
    """Something to review. ``verb`` is is or was; ``plurals`` are the aspects that take are or were."""

    name: str
    verb: str
    singulars: tuple[str, ...]
    plurals: tuple[str, ...]
    facts: tuple[str, ...]

    @property
    def aspects(self) -> tuple[str, ...]:
        """All sides that one can have an opinion on."""
        return self.singulars + self.plurals

    def verb_for(self, aspect: str) -> str:
        """The verb that agrees with the aspect."""
        if aspect in self.singulars:
            return self.verb
        return {"is": "are", "was": "were"}[self.verb]


def _subjects(text: str) -> tuple[Subject, ...]:
    """Five lines each: name and verb, singular sides, plural sides, and two lines of facts."""
    rows = [line.strip() for line in text.strip().splitlines()]
    subjects = []
    for head, singulars, plurals, facts, more in zip(*(rows[start::5] for start in range(5)), strict=True):
        name, _, verb = head.partition(": ")
        subjects.append(Subject(name, verb, pieces(singulars), pieces(plurals), pieces(f"{facts} | {more}")))
    return tuple(subjects)


_TRAIN = """
this phone: is
    screen | camera | battery | sound | shape
    buttons | colours | photos
    It weighs {n} grams more than my old one. | It has {m} cameras on the back. | It comes in {m} colours.
    The box holds a cable and a case. | The screen measures six inches. | It was made in Korea. | It takes two cards.
this restaurant: was
    food | service | soup | fish | dessert | wine list
    waiters | portions | starters | vegetables
    It is on the corner of Mill Street. | There are {n} tables. | We ordered the soup and the fish.
    The menu changes every {m} weeks. | It opens at six. | Our table was near the door. | It was opened {n} years ago.
this film: was
    plot | acting | music | ending | first half | camera work
    dialogues | costumes | actors | songs
    It is about a family in Naples. | It runs for two hours. | It was shot in {m} countries.
    It was shown in room {m}. | The story is set in a harbour town. | It is based on a book. | It has English subtitles.
this hotel: was
    room | breakfast | location | bathroom | view | pool
    beds | receptionists | corridors
    It has {n} rooms on {m} floors. | Breakfast is served from seven. | It is next to the station.
    Our room was on floor {m}. | We stayed for {m} nights. | There is a lift. | It was built {n} years ago.
this app: is
    design | search | map | calendar | new version
    menus | charts | reminders | settings
    It runs on phones and tablets. | It needs {n} megabytes. | It asks for an email address.
    It comes in {m} languages. | Version {m} came out last week. | It covers {n} towns. | It has a dark mode.
this book: is
    story | style | ending | cover | first chapter | translation
    characters | pictures | jokes | dialogues
    It has {n} chapters. | It is the author's book number {m}. | It was printed in Leipzig.
    It tells of a journey to Peru. | It comes with a map. | Each chapter begins with a date. | It is a paperback.
this jacket: is
    cut | lining | hood | zip | fabric
    pockets | sleeves | seams | colours
    It has {m} pockets. | It is made of wool. | I ordered it in size {n}.
    It comes in grey and blue. | The label says hand wash. | It has a hood. | The sleeves have {m} buttons each.
this concert: was
    sound | singer | band | choice of songs | light show | second half
    seats | drummers | solos
    It began at eight. | The band played {n} songs. | The hall has {n} rows.
    We sat in row {n}. | The band has {m} members. | It took place in the town hall. | There was a break after an hour.
this train journey: was
    seat | food on board | heating | conductor | connection
    toilets | announcements | windows
    It took {m} hours. | We changed trains in Cologne. | The carriage had {n} seats.
    The train stopped {m} times. | Our seats were in carriage {m}. | We left at nine. | Each window had a table.
this language course: is
    teacher | textbook | first lesson | pace | exam
    exercises | recordings | handouts
    It has {n} lessons. | The group has {n} members. | It takes place on Tuesdays.
    The lessons last an hour. | It is taught in room {n}. | There is a test after week {m}. | It ends in the summer.
this coffee machine: is
    coffee | milk foam | display | water tank | noise level
    buttons | instructions | cups it comes with
    It holds {m} litres of water. | It is {n} centimetres high. | It comes with a brush.
    It has a switch on the left. | It needs {m} minutes to warm up. | The tank is at the back. | It is sold in black.
this museum: is
    collection | guided tour | café | audio guide | new wing
    paintings | signs | guides
    It has {n} rooms. | It is closed on Mondays. | It shows maps and coins.
    The tour takes {n} minutes. | It stands beside the river. | There are lockers at the entrance. | It has {m} floors.
this backpack: is
    main pocket | fabric | back | rain cover | weight
    straps | zips | side pockets
    It holds {n} litres. | It has {m} pockets. | It comes with a rain cover.
    It is green with a grey back. | The straps are made of nylon. | It weighs {m} pounds. | The label is inside the lid.
"""
_HELD_OUT = """
this campsite: was
    shower block | kitchen | playground | site for our tent
    pitches | owners | paths
    It lies between the lake and the road. | There are {n} pitches. | The gate closes at ten.
    We paid at the office. | Dogs are kept on a lead. | There is a tap near every {m} tents.
this podcast: is
    host | sound quality | latest episode | theme
    guests | interviews | topics
    A new episode comes out every {m} days. | Each episode has two guests. | It is about city planning.
    So far there are {n} episodes. | It is recorded in Dublin. | It starts with the news.
this bicycle: is
    saddle | frame | bell | gear shift
    brakes | tyres | lights
    It has {n} gears. | The frame is made of steel. | It was delivered in one box.
    The wheels measure {n} inches. | It has a bell and a rack. | The pedals are packed separately.
this board game: is
    board | set of rules | artwork | scoring
    cards | dice | rounds
    It is for up to {m} players. | A round takes {n} minutes. | The box holds {n} cards.
    You start with {m} coins. | It is set on an island. | There are two dice.
this gym: is
    changing room | trainer | equipment | sauna
    mats | classes | lockers
    It is open until eleven. | There are {n} machines. | Classes last {n} minutes.
    Members get a card. | The lockers are downstairs. | It has {m} showers.
"""

SUBJECTS: dict[Split, tuple[Subject, ...]] = {"train": _subjects(_TRAIN), "held_out": _subjects(_HELD_OUT)}
