"""English that every task needs: articles, plurals, capitals, and answers that differ in nothing that matters."""

from __future__ import annotations

from .task import unfenced

# Words whose first letter says one thing and whose sound another.
_SOUNDS_OPEN = ("hour", "honest", "heir", "11", "18", "8")
_SOUNDS_CLOSED = ("uni", "use", "usa", "one", "eu", "ut")


def an(words: str) -> str:
    """``words`` with the indefinite article that fits: an apple, a uniform."""
    lower = words.lower()
    is_open = lower.startswith(_SOUNDS_OPEN) or (lower[0] in "aeiou" and not lower.startswith(_SOUNDS_CLOSED))
    return f"{'an' if is_open else 'a'} {words}"


def plural(noun: str) -> str:
    """Several of a thing with a regular plural: box becomes boxes, berry berries."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def sentence(words: str) -> str:
    """``words`` with a capital in front."""
    return words[:1].upper() + words[1:]


def lines(text: str) -> tuple[str, ...]:
    """The lines of a list written as one text."""
    return tuple(line.strip() for line in text.strip().splitlines())


def pieces(text: str) -> tuple[str, ...]:
    """The entries of a list written as one text, parted by bars."""
    return tuple(" ".join(entry.split()) for entry in text.split("|"))


def plain(output: str) -> str:
    """``output`` in lower case with single spaces and no final full stop."""
    return " ".join(unfenced(output).lower().split()).removesuffix(".")


def same_words(answer: str, output: str) -> bool:
    """Whether the two are the same text, but for white space, case and a final full stop."""
    return plain(answer) == plain(output)
