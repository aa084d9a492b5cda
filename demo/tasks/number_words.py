"""English words for whole numbers below a million."""

from __future__ import annotations

from dataclasses import dataclass

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


@dataclass(frozen=True)
class Spelling:
    """One way to write numbers in words.

    ``joint`` stands before what is left below a hundred, " and " or " "; ``one`` is what a single hundred or
    thousand in front is counted with, "one" or "a"; ``comma`` stands after the thousands when hundreds follow.
    """

    joint: str = " and "
    hyphen: str = "-"
    one: str = "one"
    comma: str = ""


def in_words(number: int, spelling: Spelling | None = None) -> str:
    """``number``, from 0 to 999,999, in words.

    Raises:
        ValueError: the number is not in that range.
    """
    if not 0 <= number < 1_000_000:
        raise ValueError(f"{number} is not between 0 and 999,999")
    spelling = spelling or Spelling()
    thousands, rest = divmod(number, 1000)
    if not thousands:
        return _below_thousand(rest, spelling, spelling.one)
    count = spelling.one if thousands == 1 else _below_thousand(thousands, spelling, spelling.one)
    words = f"{count} thousand"
    if not rest:
        return words
    if rest < 100:
        return f"{words}{spelling.joint}{_below_hundred(rest, spelling)}"
    return f"{words}{spelling.comma} {_below_thousand(rest, spelling, 'one')}"


def in_hundreds(number: int, spelling: Spelling | None = None) -> str:
    """``number`` counted in hundreds, as in twelve hundred and fifty.

    Raises:
        ValueError: the number is not one that is said so: 1,100 to 9,999 with hundreds that are no thousands.
    """
    hundreds, rest = divmod(number, 100)
    if not 11 <= hundreds <= 99 or hundreds % 10 == 0:
        raise ValueError(f"{number} is not counted in hundreds")
    spelling = spelling or Spelling()
    words = f"{_below_hundred(hundreds, spelling)} hundred"
    return f"{words}{spelling.joint}{_below_hundred(rest, spelling)}" if rest else words


def _below_hundred(number: int, spelling: Spelling) -> str:
    if number < 20:
        return _SMALL[number]
    tens, rest = divmod(number, 10)
    return _TENS[tens - 2] + (f"{spelling.hyphen}{_SMALL[rest]}" if rest else "")


def _below_thousand(number: int, spelling: Spelling, one: str) -> str:
    hundreds, rest = divmod(number, 100)
    if not hundreds:
        return _below_hundred(rest, spelling)
    words = f"{one if hundreds == 1 else _SMALL[hundreds]} hundred"
    return f"{words}{spelling.joint}{_below_hundred(rest, spelling)}" if rest else words
