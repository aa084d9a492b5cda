"""Text to SQL: a question about one small table becomes one query."""

from __future__ import annotations

import random
import re

from .sql_execution import same_rows
from .sql_questions import View, ask
from .sql_tables import TABLES
from .task import Example, Split, Task, unfenced

_TOKEN = re.compile(r"'(?:[^']|'')*'|\w+|[<>!]=|<>|\S")
_KEYWORDS = re.compile(
    "SELECT|DISTINCT|FROM|WHERE|AND|OR|NOT|LIKE|BETWEEN|IS|NULL|GROUP|BY|HAVING|ORDER|ASC|DESC|LIMIT"
    "|COUNT|SUM|AVG|MIN|MAX",
    re.IGNORECASE,
)


def draw(rng: random.Random, split: Split) -> Example:
    """One question about one table of the split."""
    view = View.draw(rng, rng.choice(TABLES[split]))
    question = ask(rng, view)
    return Example(f"Write one SQL query.\nTable: {view.schema}\nQuestion: {question.words}", question.sql)


def normalised(query: str) -> str:
    """``query`` with one space between tokens, keywords in capitals and no final semicolon."""
    tokens = _TOKEN.findall(unfenced(query))
    if tokens and tokens[-1] == ";":
        tokens.pop()
    return " ".join(token.upper() if _KEYWORDS.fullmatch(token) else token for token in tokens)


def score(answer: str, output: str) -> bool:
    """Whether the two queries are the same text, but for white space and the case of keywords."""
    return normalised(answer) == normalised(output)


TASK = Task(
    name="sql",
    title="Text to SQL",
    description=(
        "Turns a question about one small table into one SQL query: filters, counts, aggregates, GROUP BY "
        "with and without HAVING, ORDER BY, LIMIT, DISTINCT, LIKE and IS NULL. It knows no joins."
    ),
    held_out=(
        "The unseen questions are about eight tables (singers, ships, museums, wines, airports, novels, "
        "sensors, bakeries) that do not occur in training at all."
    ),
    max_new_tokens=64,
    draw=draw,
    score=score,
    further_scores={"same rows in SQLite": same_rows},
)
