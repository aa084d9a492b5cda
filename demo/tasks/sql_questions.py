"""Questions about one table, each with the query that answers it. Every shape of query is one function."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .sql_tables import NumberColumn, Table, TextColumn

_AGGREGATES = (
    ("average", "AVG"),
    ("mean", "AVG"),
    ("total", "SUM"),
    ("lowest", "MIN"),
    ("smallest", "MIN"),
    ("highest", "MAX"),
    ("largest", "MAX"),
)
_COMPARISONS = (
    (">", ("a {c} above {v}", "a {c} over {v}", "a {c} greater than {v}")),
    (">=", ("a {c} of at least {v}", "a {c} of {v} or more")),
    ("<", ("a {c} below {v}", "a {c} under {v}", "a {c} less than {v}")),
    ("<=", ("a {c} of at most {v}", "a {c} of {v} or less")),
)
_COUNT_COMPARISONS = (
    (">", ("more than {v} {c}", "over {v} {c}")),
    (">=", ("at least {v} {c}", "{v} or more {c}")),
    ("<", ("fewer than {v} {c}", "under {v} {c}")),
    ("<=", ("at most {v} {c}", "{v} {c} or fewer")),
)
_EXTREMES = (("highest", "DESC"), ("largest", "DESC"), ("lowest", "ASC"), ("smallest", "ASC"))
_COUNT_EXTREMES = (("most", "DESC"), ("fewest", "ASC"))
_PER = ("per", "for each", "by", "in each")


@dataclass(frozen=True)
class View:
    """A table with the columns that one example shows of it."""

    table: Table
    texts: tuple[TextColumn, ...]
    numbers: tuple[NumberColumn, ...]
    columns: tuple[str, ...]

    @classmethod
    def draw(cls, rng: random.Random, table: Table) -> View:
        """Show the label and some of the other columns, in any order."""
        texts = tuple(rng.sample(table.texts, rng.randint(1, min(2, len(table.texts)))))
        numbers = tuple(rng.sample(table.numbers, rng.randint(1, 2)))
        columns = [table.label.name, *(column.name for column in texts), *(column.name for column in numbers)]
        rng.shuffle(columns)
        return cls(table, texts, numbers, ("id", *columns))

    @property
    def schema(self) -> str:
        """The table as the prompt shows it."""
        return f"{self.table.name}({', '.join(self.columns)})"


@dataclass(frozen=True)
class Clause:
    """A piece of a question with its piece of SQL; both are empty where there is no condition."""

    words: str = ""
    sql: str = ""


def _an(words: str) -> str:
    """``a salary`` stays, ``a age`` becomes ``an age``."""
    return "an" + words[1:] if words[2] in "aeio" else words


def _value(rng: random.Random, column: NumberColumn) -> int:
    return rng.randrange(column.low, column.high + 1, column.step)


def _text_test(rng: random.Random, view: View) -> Clause:
    column = rng.choice(view.texts)
    value, other = rng.sample(column.values, 2)
    kind = rng.random()
    if kind < 0.15:
        return Clause(f"whose {column.name} is not {value}", f"{column.name} != '{value}'")
    if kind < 0.3:
        words = f"whose {column.name} is {value} or {other}"
        return Clause(words, f"{column.name} = '{value}' OR {column.name} = '{other}'")
    words = rng.choice(("whose {c} is {v}", "with {c} {v}", "where the {c} is {v}"))
    return Clause(words.format(c=column.name, v=value), f"{column.name} = '{value}'")


def _number_test(rng: random.Random, view: View) -> Clause:
    column = rng.choice(view.numbers)
    if rng.random() < 0.2:
        low, high = sorted((_value(rng, column), _value(rng, column)))
        span = f"between {low} and {high}"
        words = f"{span} {column.name}" if column.is_count else _an(f"a {column.name} {span}")
        return Clause(f"with {words}", f"{column.name} BETWEEN {low} AND {high}")
    operator, wordings = rng.choice(_COUNT_COMPARISONS if column.is_count else _COMPARISONS)
    value = _value(rng, column)
    words = rng.choice(wordings).format(c=column.name, v=value)
    words = words if column.is_count else _an(words)
    return Clause(f"with {words}", f"{column.name} {operator} {value}")


def _label_test(rng: random.Random, view: View) -> Clause:
    name, letter = view.table.label.name, rng.choice("ABCDEFGHIKLMNOPRSTVW")
    if rng.random() < 0.5:
        return Clause(f"whose {name} starts with {letter}", f"{name} LIKE '{letter}%'")
    return Clause(f"whose {name} ends with {letter.lower()}", f"{name} LIKE '%{letter.lower()}'")


def _missing_test(rng: random.Random, view: View) -> Clause:
    name = rng.choice(view.columns[1:])
    return Clause(rng.choice((f"with no {name}", f"whose {name} is missing")), f"{name} IS NULL")


def _condition(rng: random.Random, view: View) -> Clause:
    """A condition with its WHERE, of one test or of two that must both hold."""
    kind = rng.random()
    if kind < 0.22:
        text, number = _text_test(rng, view), _number_test(rng, view)
        joined = f"({text.sql})" if " OR " in text.sql else text.sql
        return Clause(f" {text.words} and {number.words}", f" WHERE {joined} AND {number.sql}")
    tests: tuple[Callable[[random.Random, View], Clause], ...] = (
        _text_test,
        _number_test,
        _label_test,
        _missing_test,
    )
    test = rng.choices(tests, (5, 5, 1, 1))[0](rng, view)
    return Clause(f" {test.words}", f" WHERE {test.sql}")


def _maybe_condition(rng: random.Random, view: View, share: float) -> Clause:
    return _condition(rng, view) if rng.random() < share else Clause()


def _wanted(rng: random.Random, view: View) -> Clause:
    """What to list: whole rows, their label, or the label and one more column."""
    table, kind = view.table, rng.random()
    if kind < 0.4:
        return Clause(rng.choice((f"all {table.name}", f"the {table.name}")), "*")
    if kind < 0.75:
        return Clause(f"the {table.label.plural} of {table.name}", table.label.name)
    column = rng.choice([*(text.name for text in view.texts), *(number.name for number in view.numbers)])
    return Clause(f"the {table.label.name} and {column} of {table.name}", f"{table.label.name}, {column}")


def _measure(rng: random.Random, view: View) -> Clause:
    """An aggregate of one column of numbers."""
    word, function = rng.choice(_AGGREGATES)
    column = rng.choice(view.numbers)
    words = f"{word} number of {column.name}" if column.is_count else f"{word} {column.name}"
    return Clause(words, f"{function}({column.name})")


def _select(rng: random.Random, view: View) -> Clause:
    wanted, condition = _wanted(rng, view), _maybe_condition(rng, view, 0.9)
    sql = f"SELECT {wanted.sql} FROM {view.table.name}{condition.sql};"
    if wanted.sql == "*" and condition.sql and rng.random() < 0.3:
        return Clause(f"Which {view.table.name} are there{condition.words}?", sql)
    verb = rng.choice(("List", "Show", "Find", "Give me"))
    return Clause(f"{verb} {wanted.words}{condition.words}.", sql)


def _count(rng: random.Random, view: View) -> Clause:
    condition = _maybe_condition(rng, view, 0.8)
    question = rng.choice(("How many {r} are there{w}?", "Count the {r}{w}.", "What is the number of {r}{w}?"))
    return Clause(
        question.format(r=view.table.name, w=condition.words),
        f"SELECT COUNT(*) FROM {view.table.name}{condition.sql};",
    )


def _aggregate(rng: random.Random, view: View) -> Clause:
    measure, condition = _measure(rng, view), _maybe_condition(rng, view, 0.6)
    question = rng.choice(("What is the {m} of {r}{w}?", "Find the {m} of all {r}{w}."))
    return Clause(
        question.format(m=measure.words, r=view.table.name, w=condition.words),
        f"SELECT {measure.sql} FROM {view.table.name}{condition.sql};",
    )


def _group(rng: random.Random, view: View) -> Clause:
    text, condition = rng.choice(view.texts).name, _maybe_condition(rng, view, 0.25)
    if rng.random() < 0.5:
        measure, what = "COUNT(*)", f"number of {view.table.name}"
    else:
        aggregate = _measure(rng, view)
        measure, what = aggregate.sql, f"{aggregate.words} of {view.table.name}"
    # The condition stands before "per city": after it, it would read as a condition on the city.
    question = f"{rng.choice(('Show', 'What is', 'Give'))} the {what}{condition.words} {rng.choice(_PER)} {text}"
    question += "?" if question.startswith("What") else "."
    return Clause(question, f"SELECT {text}, {measure} FROM {view.table.name}{condition.sql} GROUP BY {text};")


def _order(rng: random.Random, view: View) -> Clause:
    wanted, condition = _wanted(rng, view), _maybe_condition(rng, view, 0.4)
    if rng.random() < 0.25:
        column, order, words = view.table.label.name, "ASC", "in alphabetical order"
    else:
        number = rng.choice(view.numbers)
        word, order = rng.choice(_COUNT_EXTREMES if number.is_count else _EXTREMES)
        column, words = number.name, f"{word} {number.name} first"
    verb = rng.choice(("List", "Show", "Sort"))
    return Clause(
        f"{verb} {wanted.words}{condition.words}, {words}.",
        f"SELECT {wanted.sql} FROM {view.table.name}{condition.sql} ORDER BY {column} {order};",
    )


def _top(rng: random.Random, view: View) -> Clause:
    number_column, table = rng.choice(view.numbers), view.table
    word, order = rng.choice(_COUNT_EXTREMES if number_column.is_count else _EXTREMES)
    column = number_column.name
    tail = f"FROM {table.name} ORDER BY {column} {order} LIMIT"
    if rng.random() < 0.4:
        return Clause(f"Which {table.row} has the {word} {column}?", f"SELECT * {tail} 1;")
    number = rng.choice((2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20))
    rows = f"the {number} {table.name} with the {word} {column}"
    if rng.random() < 0.5:
        return Clause(f"{rng.choice(('Show', 'Find', 'List'))} {rows}.", f"SELECT * {tail} {number};")
    return Clause(f"Give the {table.label.plural} of {rows}.", f"SELECT {table.label.name} {tail} {number};")


def _distinct(rng: random.Random, view: View) -> Clause:
    text, condition = rng.choice(view.texts), _maybe_condition(rng, view, 0.4)
    question = rng.choice(("What are the different {p} of {r}{w}?", "List the distinct {p} of all {r}{w}."))
    return Clause(
        question.format(p=text.plural, r=view.table.name, w=condition.words),
        f"SELECT DISTINCT {text.name} FROM {view.table.name}{condition.sql};",
    )


def _having(rng: random.Random, view: View) -> Clause:
    text, number = rng.choice(view.texts), rng.randint(2, 30)
    word, operator = rng.choice((("more than", ">"), ("fewer than", "<"), ("at least", ">=")))
    sql = f"SELECT {text.name} FROM {view.table.name} GROUP BY {text.name} HAVING COUNT(*) {operator} {number};"
    return Clause(f"Which {text.plural} have {word} {number} {view.table.name}?", sql)


SHAPES: tuple[tuple[int, Callable[[random.Random, View], Clause]], ...] = (
    (6, _select),
    (3, _count),
    (3, _aggregate),
    (3, _group),
    (2, _order),
    (3, _top),
    (1, _distinct),
    (1, _having),
)


def ask(rng: random.Random, view: View) -> Clause:
    """A question about the view and the query that answers it."""
    weights, shapes = zip(*SHAPES, strict=True)
    shape: Callable[[random.Random, View], Clause] = rng.choices(shapes, weights)[0]
    return shape(rng, view)
