"""The units task: every conversion is exact and its answer in the unit asked for."""

import re
from fractions import Fraction

import pytest

from demo.tasks import get_task
from demo.tasks.units_wording import ASKING

# What one of a unit is in the smallest of its kind.
LENGTHS = {"km": 10**6, "m": 1000, "dm": 100, "cm": 10, "mm": 1}
WEIGHTS = {"t": 10**9, "kg": 10**6, "g": 1000, "mg": 1}
VOLUMES = {"hl": 10**5, "l": 1000, "cl": 10, "ml": 1}
TIMES = {"h": 3_600_000, "min": 60_000, "s": 1000, "ms": 1}
KINDS = [LENGTHS, WEIGHTS, VOLUMES, TIMES, {"kW": 1000, "W": 1}, {"V": 1000, "mV": 1}, {"EUR": 100, "ct": 1}]
KINDS.append({"kJ": 1000, "J": 1})
SYMBOLS = {
    **{"kilometres": "km", "metres": "m", "decimetres": "dm", "centimetres": "cm", "millimetres": "mm"},
    **{"tonnes": "t", "kilograms": "kg", "grams": "g", "milligrams": "mg"},
    **{"hectolitres": "hl", "litres": "l", "centilitres": "cl", "millilitres": "ml"},
    **{"hours": "h", "minutes": "min", "seconds": "s", "milliseconds": "ms"},
    **{"kilowatts": "kW", "watts": "W", "volts": "V", "millivolts": "mV"},
    **{"euros": "EUR", "cents": "ct", "kilojoules": "kJ", "joules": "J"},
}


def quantity(text):
    number, unit = re.search(r"(\d+(?:\.\d+)?) ([A-Za-z]+)", text).groups()
    return Fraction(number), SYMBOLS.get(unit, unit), unit


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_both_sides_are_the_same_quantity(split):
    for example in get_task("units").examples(split, 3000, 1):
        question = example.prompt.split("\n\n", 1)[1]
        value, source, source_word = quantity(question)
        result, target, target_word = quantity(example.answer)
        (kind,) = [kind for kind in KINDS if source in kind]
        assert value * kind[source] == result * kind[target], example
        assert source != target
        assert len(re.findall(r"\d+(?:\.\d+)?", question)) == 1
        assert re.search(rf"\b{target_word}\b", question), example
        assert (source_word in SYMBOLS) == (target_word in SYMBOLS), "both in full or both as symbols"


def test_numbers_are_short_and_plain():
    for example in get_task("units").examples("train", 2000, 2):
        number = example.answer.split()[0]
        assert re.fullmatch(r"(0|[1-9]\d*)(\.\d{0,2}[1-9])?", number), example
        assert Fraction(number) != 1, "one would need the singular"


def test_the_splits_share_no_wording():
    assert not set(ASKING["train"]) & set(ASKING["held_out"])
