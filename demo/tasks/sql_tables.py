"""The tables that the ``sql`` task asks about. Training and held-out tables share no table name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .task import Split


@dataclass(frozen=True)
class TextColumn:
    """A column of words, with values to ask for."""

    name: str
    values: tuple[str, ...] = ()

    @property
    def plural(self) -> str:
        """How several values of the column are called."""
        if self.name.endswith("y"):
            return self.name[:-1] + "ies"
        return self.name + ("es" if self.name.endswith(("s", "ch", "x")) else "s")


@dataclass(frozen=True)
class NumberColumn:
    """A column of whole numbers; questions use multiples of ``step`` from ``low`` to ``high``."""

    name: str
    low: int
    high: int
    step: int = 1

    @property
    def is_count(self) -> bool:
        """Whether it counts things, as ``seats`` does: one says "more than 4 seats" but "a price above 4"."""
        return self.name.endswith("s")


@dataclass(frozen=True)
class Table:
    """A table: its name (the plural of ``row``), the column that names a row, and columns to choose from."""

    name: str
    row: str
    label: TextColumn
    texts: tuple[TextColumn, ...]
    numbers: tuple[NumberColumn, ...]


# Columns that several tables have; the tables below name them without values.
_SHARED_TEXTS = {
    "city": "Paris|Lyon|Berlin|Oslo|Madrid|Rome|Vienna|Dublin|Lisbon|Prague|Boston|Lagos|Osaka",
    "country": "France|Germany|Spain|Japan|Brazil|Canada|Kenya|India|Norway|Chile|Egypt",
    "status": "open|closed|pending|cancelled|shipped|paid",
    "color": "red|blue|green|black|white|silver|yellow",
    "language": "English|French|Spanish|German|Japanese|Hindi|Arabic",
    "genre": "drama|comedy|horror|thriller|fantasy|romance",
}
_SHARED_NUMBERS = {
    "price": "5-900/5",
    "year": "1960-2024",
    "rating": "1-10",
    "age": "18-75",
    "stock": "5-500/5",
    "weight": "10-900/10",
}

# Per table: name, (one row), label column; columns of words; columns of numbers with low-high/step.
_TRAIN = """
employees (employee) name
    city; department: Sales|Marketing|Finance|Legal|Support|Engineering
    salary 2000-9000/500; age; bonus 100-2000/100
customers (customer) name
    city; country; segment: retail|wholesale|online|partner
    age; points 50-5000/50; balance 100-9000/100
products (product) name
    color; category: toys|books|garden|kitchen|sports|office; brand: Acme|Zenith|Nordic|Orbit
    price; stock; weight
orders (order) reference
    status; city; channel: web|phone|store|email
    total 20-3000/20; quantity 1-60; year
books (book) title
    genre; language; author: Woolf|Tolstoy|Achebe|Borges|Austen
    year; pages 100-1200/50; price
movies (movie) title
    genre; country; director: Kurosawa|Varda|Scott|Nolan|Campion
    year; rating; duration 70-210/10
students (student) name
    city; major: biology|history|physics|law|music|chemistry
    age; credits 10-240/10; grade 1-20
cars (car) model
    color; maker: Fiat|Volvo|Toyota|Renault|Ford; fuel: petrol|diesel|electric|hybrid
    price; year; mileage 5000-200000/5000
flights (flight) code
    status; airline: Lufthansa|Iberia|Qantas|Finnair; origin: Paris|Oslo|Cairo|Lima|Delhi
    price; seats 20-400/10; distance 200-12000/200
hotels (hotel) name
    city; country
    stars 1-5; rooms 10-600/10; rating
patients (patient) name
    city; ward: surgery|maternity|cardiology|oncology; doctor: Silva|Keller|Okoye|Novak
    age; weight; height 140-205/5
teams (team) name
    city; league: north|south|east|west; coach: Marin|Dubois|Larsen|Costa
    wins 1-60; points 5-120/5; goals 5-150/5
songs (song) title
    artist: Adele|Prince|Bowie|Sade|Santana; language; album: Horizon|Lanterns|Rivers|Atlas
    year; plays 1000-90000/1000; length 90-600/10
houses (house) address
    city; style: modern|colonial|rustic|Victorian; owner: Meyer|Rossi|Tanaka|Diaz
    price; bedrooms 1-9; area 40-600/20
invoices (invoice) number
    status; vendor: Globex|Initech|Umbra|Vertex; currency: EUR|USD|GBP|JPY
    amount 50-9000/50; tax 5-900/5; year
events (event) title
    city; type: concert|festival|workshop|lecture; host: Arena|Museum|Library|Theatre
    capacity 50-5000/50; price; visitors 20-5000/20
recipes (recipe) title
    cuisine: Thai|Italian|Mexican|Indian|Greek; course: starter|main|dessert|snack
    minutes 5-180/5; calories 50-1500/50; servings 1-12
tickets (ticket) subject
    status; priority: low|medium|high|urgent; agent: Ines|Tom|Yuki|Omar
    hours 1-90; replies 1-40
animals (animal) name
    kind: lion|zebra|otter|panda|lynx; habitat: savanna|forest|desert|wetland; country
    age; weight; speed 5-110/5
courses (course) title
    teacher: Weber|Moreau|Singh|Rossi; language; level: beginner|advanced|expert
    credits 1-12; fee 50-2000/50; lessons 4-60
accounts (account) holder
    bank: Alpina|Meridian|Harbor|Unity; type: savings|checking|business; country
    balance 100-90000/100; fee 1-50
projects (project) name
    status; manager: Hana|Pierre|Luca|Amina; client: Globex|Nordbank|Helios|Quanta
    budget 1000-90000/1000; hours 10-900/10; year
"""

_HELD_OUT = """
singers (singer) name
    country; genre: jazz|opera|folk|soul|techno; label: Motown|Verve|Decca
    age; albums 1-40; awards 1-25
ships (ship) name
    flag: Panama|Malta|Liberia|Greece; type: tanker|ferry|trawler|yacht; port: Rotterdam|Genoa|Hamburg|Piraeus
    length 20-400/10; tonnage 500-90000/500; year
museums (museum) name
    city; theme: science|art|railways|fashion; curator: Haas|Lund|Bianchi|Sato
    visitors 1000-900000/1000; fee 1-40; founded 1750-2020
wines (wine) name
    grape: Merlot|Riesling|Malbec|Syrah; region: Rioja|Mosel|Mendoza|Tuscany; color
    price; vintage 1980-2023; bottles 10-900/10
airports (airport) code
    city; country; operator: Aena|Fraport|Avinor
    runways 1-7; gates 5-150/5; elevation 5-2500/5
novels (novel) title
    language; writer: Lessing|Mahfouz|Saramago|Munro; publisher: Faber|Gallimard|Penguin
    chapters 5-90; copies 500-90000/500; year
sensors (sensor) code
    room: kitchen|garage|attic|lobby; unit: celsius|lux|percent|pascal; status
    reading 1-900; battery 5-100/5
bakeries (bakery) name
    city; specialty: bagels|croissants|pretzels|rye; baker: Anselm|Brigid|Fatou|Marek
    ovens 1-20; revenue 1000-90000/1000; rating
"""

_HEAD = re.compile(r"(\w+) \((\w+)\) (\w+)")


def _texts(line: str) -> tuple[TextColumn, ...]:
    columns = (column.partition(": ") for column in line.strip().split("; "))
    return tuple(TextColumn(name, tuple((values or _SHARED_TEXTS[name]).split("|"))) for name, _, values in columns)


def _numbers(line: str) -> tuple[NumberColumn, ...]:
    columns = []
    for column in line.strip().split("; "):
        name, _, span = column.partition(" ")
        bounds, _, step = (span or _SHARED_NUMBERS[name]).partition("/")
        low, high = map(int, bounds.split("-"))
        columns.append(NumberColumn(name, low, high, int(step or 1)))
    return tuple(columns)


def _tables(text: str) -> tuple[Table, ...]:
    lines = text.strip().splitlines()
    tables = []
    for head, texts, numbers in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        found = _HEAD.fullmatch(head)
        if found is None:
            raise ValueError(f"not the head of a table: {head!r}")
        name, row, label = found.groups()
        tables.append(Table(name, row, TextColumn(label), _texts(texts), _numbers(numbers)))
    return tuple(tables)


TABLES: dict[Split, tuple[Table, ...]] = {"train": _tables(_TRAIN), "held_out": _tables(_HELD_OUT)}
