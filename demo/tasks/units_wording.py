"""Units that convert into each other, and ways to ask for it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .task import Split
from .wording import lines


@dataclass(frozen=True)
class Unit:
    """A unit in full, in the plural, and as its symbol."""

    plural: str
    symbol: str


@dataclass(frozen=True)
class Pair:
    """Two units: one ``large`` is ``factor`` of ``small``."""

    large: Unit
    small: Unit
    factor: int


def _units(text: str) -> dict[str, Unit]:
    units = {}
    for entry in text.split(", "):
        plural, symbol = entry.split()
        units[symbol] = Unit(plural, symbol)
    return units


def _pairs(text: str) -> tuple[Pair, ...]:
    pairs = []
    for entry in text.split(", "):
        large, small, factor = entry.split()
        pairs.append(Pair(_UNITS[large], _UNITS[small], int(factor)))
    return tuple(pairs)


_UNITS = _units(
    "kilometres km, metres m, decimetres dm, centimetres cm, millimetres mm, tonnes t, kilograms kg, grams g, "
    "milligrams mg, hectolitres hl, litres l, centilitres cl, millilitres ml, hours h, minutes min, seconds s, "
    "milliseconds ms, kilowatts kW, watts W, volts V, millivolts mV, euros EUR, cents ct, kilojoules kJ, joules J"
)
PAIRS = _pairs(
    "km m 1000, km m 1000, m cm 100, m cm 100, m mm 1000, cm mm 10, m dm 10, dm cm 10, t kg 1000, kg g 1000, "
    "kg g 1000, g mg 1000, l ml 1000, l ml 1000, l cl 100, cl ml 10, hl l 100, s ms 1000, kW W 1000, V mV 1000, "
    "EUR ct 100, kJ J 1000"
)
TIME_PAIRS = _pairs("h min 60, min s 60")

# {q} is the quantity, {t} the unit to convert it into.
ASKING: dict[Split, tuple[str, ...]] = {
    "train": lines("""
        How many {t} are {q}?
        How many {t} are there in {q}?
        How many {t} make {q}?
        Convert {q} to {t}.
        Convert {q} into {t}.
        Please convert {q} to {t}.
        What is {q} in {t}?
        What are {q} in {t}?
        Express {q} in {t}.
        Write {q} in {t}.
        {q} in {t}
        {q} in {t}?
        {q} = ? {t}
        Change {q} to {t}.
        {q}, how many {t} is that?
        The label says {q}. What is that in {t}?
        What does {q} come to in {t}?
        State {q} in {t}.
    """),
    "held_out": lines("""
        Turn {q} into {t}.
        Give me {q} in {t}.
        Can you tell me {q} in {t}?
        How many {t} do I get from {q}?
        {q} to {t}, please.
        If you write {q} in {t}, what do you get?
        I need {q} in {t}.
        How much is {q} in {t}?
    """),
}
# Sentences with things, by the symbol of the unit that such things are measured in.
_THINGS: dict[Split, dict[str, tuple[str, ...]]] = {
    "train": {
        "km": ("The path is {q} long.", "The lake is {q} wide.", "We walked {q}."),
        "m": ("The rope is {q} long.", "The wall is {q} high.", "The carpet measures {q}."),
        "cm": ("The screw is {q} long.", "The ribbon measures {q}.", "The snow is {q} deep."),
        "kg": ("The bag weighs {q}.", "We bought {q} of rice.", "The dog weighs {q}."),
        "g": ("The letter weighs {q}.", "Take {q} of flour.", "The stone weighs {q}."),
        "l": ("The jug holds {q}.", "We need {q} of milk.", "The bucket holds {q}."),
        "ml": ("The glass holds {q}.", "Add {q} of water."),
        "h": ("The journey takes {q}.", "They worked for {q}."),
        "min": ("The film lasts {q}.", "We waited {q}.", "Let it boil for {q}."),
        "EUR": ("The lamp costs {q}.", "Ann has saved {q}."),
    },
    "held_out": {
        "km": ("The canal is {q} long.", "She cycled {q}."),
        "m": ("The curtain is {q} long.", "The tree is {q} tall."),
        "cm": ("The pencil is {q} long.",),
        "kg": ("The suitcase weighs {q}.", "They picked {q} of plums."),
        "g": ("The bird weighs {q}.", "Use {q} of butter."),
        "l": ("The barrel holds {q}.", "The soup needs {q} of stock."),
        "ml": ("The spoon holds {q}.",),
        "h": ("The flight takes {q}.",),
        "min": ("The concert lasts {q}.", "The bread bakes for {q}."),
        "EUR": ("The scarf costs {q}.",),
    },
}
_ASKING_BACK = ("What is that in {t}?", "How many {t} is that?", "Convert that to {t}.")


def ask_about(rng: random.Random, split: Split, unit: Unit, quantity: str, target: str) -> str | None:
    """A sentence about a thing of that quantity with a question behind it; None where no thing is measured so."""
    sentences = _THINGS[split].get(unit.symbol)
    if sentences is None:
        return None
    return f"{rng.choice(sentences)} {rng.choice(_ASKING_BACK)}".format(q=quantity, t=target)
