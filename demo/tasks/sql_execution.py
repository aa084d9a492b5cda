"""Whether two queries give the same rows, found out by running both on a small table in memory."""

from __future__ import annotations

import random
import re
import sqlite3

from .task import Example, unfenced

_SCHEMA = re.compile(r"(\w+)\(([\w, ]+)\)")
_TEST = re.compile(r"(\w+) (?:!=|<=|>=|=|<|>|LIKE|BETWEEN) (?:'([^']*)'|(\d+)(?: AND (\d+))?)")
_NUM_ROWS = 120
_MAX_STEPS = 200_000
# Distances from a constant: next to it for a wrong operator, further off so that an order has something to order.
_STEPS = (-31, -7, -2, -1, 0, 1, 2, 5, 13, 40)
_WORDS = ("Alder", "Birch", "Cedar", "Fern", "Maple", "Willow")

Row = tuple[object, ...]


def same_rows(example: Example, output: str) -> bool:
    """Whether ``output`` runs and returns what the expected query returns, in order where it asks for one.

    The table is filled with values on both sides of every constant of the expected query, so that a wrong
    operator or a wrong constant shows.
    """
    expected, found = example.answer, unfenced(output)
    # Only a SELECT may run: it can neither open a file nor write one.
    if not found.upper().startswith("SELECT"):
        return False
    connection = _filled(example)
    try:
        rows = connection.execute(expected).fetchall()
        connection.set_progress_handler(lambda: 1, _MAX_STEPS)
        found_rows = connection.execute(found).fetchall()
    except (sqlite3.Error, sqlite3.Warning):
        return False
    finally:
        connection.close()
    if "ORDER BY" not in expected:
        rows, found_rows = sorted(rows, key=repr), sorted(found_rows, key=repr)
    return bool(rows == found_rows)


def _filled(example: Example) -> sqlite3.Connection:
    schema = _SCHEMA.search(example.prompt)
    if schema is None:
        raise ValueError(f"no table in the prompt {example.prompt!r}")
    table, columns = schema[1], [column.strip() for column in schema[2].split(",")]
    rng = random.Random(example.prompt)
    values = [_candidates(rng, column, example.answer) for column in columns]
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    rows: list[Row] = [(key, *map(rng.choice, values[1:])) for key in range(1, _NUM_ROWS + 1)]
    connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
    return connection


def _candidates(rng: random.Random, column: str, query: str) -> list[object]:
    """Values for a column: near the constants that the query compares it with; NULL if it asks for that."""
    tests = [test for test in _TEST.findall(query) if test[0] == column]
    texts = [test[1] for test in tests if test[1]]
    numbers = [int(number) for test in tests for number in test[2:] if number]
    values: list[object] = [None] if f"{column} IS NULL" in query else []
    if texts:
        return [
            *values,
            *(text.replace("%", "") for text in texts),
            *(text.replace("%", "x") for text in texts),
            *_WORDS,
        ]
    if numbers:
        return [*values, *(number + step for number in numbers for step in _STEPS)]
    return [*values, *(rng.randrange(1, 1000) for _ in range(_NUM_ROWS // 4))]
