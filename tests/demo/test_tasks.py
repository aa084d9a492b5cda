"""The demo's tasks: the same examples every time, splits that share nothing, and scores that tell right from wrong."""

import json
import random

import pytest

from demo.tasks import Example, all_tasks, get_task
from demo.tasks.contact_people import COMPANY_STEMS, SURNAMES
from demo.tasks.sql import normalised
from demo.tasks.sql_execution import same_rows
from demo.tasks.sql_tables import TABLES

TASKS = sorted(all_tasks())


def test_the_tasks_are_found_by_name():
    found = "contact dates numbers polite sentiment shell sql tags times triage units".split()
    assert set(found) <= set(TASKS)
    with pytest.raises(ValueError, match="there are contact"):
        get_task("poetry")


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_the_same_arguments_give_the_same_examples(name, split):
    task = get_task(name)
    assert task.examples(split, 50, 3) == task.examples(split, 50, 3)
    assert task.examples(split, 50, 3) != task.examples(split, 50, 4)
    assert task.examples(split, 50, 3)[:20] == task.examples(split, 20, 3)


@pytest.mark.parametrize("name", TASKS)
def test_no_held_out_prompt_occurs_in_training(name):
    task = get_task(name)
    seen = {example.prompt for seed in range(3) for example in task.examples("train", 2000, seed)}
    unseen = {example.prompt for seed in range(3) for example in task.examples("held_out", 500, seed)}
    assert not seen & unseen


@pytest.mark.parametrize("name", TASKS)
def test_one_prompt_has_one_answer(name):
    task, answers = get_task(name), {}
    rng = random.Random(6)
    for _ in range(3000):
        example = task.draw(rng, "held_out")
        assert answers.setdefault(example.prompt, example.answer) == example.answer


@pytest.mark.parametrize("name", TASKS)
def test_every_answer_is_right_by_its_own_scores(name):
    task = get_task(name)
    for example in [*task.examples("train", 300, 5), *task.examples("held_out", 300, 5)]:
        assert task.score(example.answer, example.answer)
        assert not task.score(example.answer, "")
        for check in task.further_scores.values():
            assert check(example, example.answer)
            assert not check(example, "")


@pytest.mark.parametrize("name", TASKS)
def test_a_split_that_runs_out_says_so(name):
    task = get_task(name)
    stuck = type(task)(
        **{
            **vars(task),
            "draw": lambda _rng, _split: Example("always the same", task.examples("train", 1, 0)[0].answer),
        }
    )
    with pytest.raises(ValueError, match="only 1 different train prompts, not 2"):
        stuck.examples("train", 2, 0)


def test_the_splits_draw_from_different_material():
    tables = {split: {table.name for table in some} for split, some in TABLES.items()}
    assert not tables["train"] & tables["held_out"]
    for pool in (SURNAMES, COMPANY_STEMS):
        assert not set(pool["train"]) & set(pool["held_out"])


@pytest.mark.parametrize(
    "output",
    [
        "SELECT name FROM ships WHERE flag = 'New Malta' AND year > 1990;",
        "select name from ships where flag='New Malta' and year>1990",
        "```sql\nSELECT name\nFROM ships\nWHERE flag = 'New Malta' AND year > 1990;\n```",
    ],
)
def test_sql_ignores_white_space_and_the_case_of_keywords(output):
    assert get_task("sql").score("SELECT name FROM ships WHERE flag = 'New Malta' AND year > 1990;", output)


@pytest.mark.parametrize(
    "output",
    [
        "SELECT name FROM ships WHERE flag = 'New  Malta' AND year > 1990;",
        "SELECT name FROM ships WHERE flag = 'new malta' AND year > 1990;",
        "SELECT name FROM ships WHERE flag = 'New Malta' AND year >= 1990;",
        "SELECT * FROM ships WHERE flag = 'New Malta' AND year > 1990;",
        "SELECT name FROM ships WHERE flag = 'New Malta' AND year > 1990; SELECT 1;",
        "Sure! SELECT name FROM ships WHERE flag = 'New Malta' AND year > 1990;",
    ],
)
def test_sql_rejects_another_query(output):
    assert not get_task("sql").score("SELECT name FROM ships WHERE flag = 'New Malta' AND year > 1990;", output)


def test_keywords_inside_a_string_keep_their_case():
    assert normalised("select x from t where y = 'or else'") == "SELECT x FROM t WHERE y = 'or else'"


SHIPS = Example(
    "Write one SQL query.\nTable: ships(id, name, flag, length)\nQuestion: Find the ships with a length of at most 50.",
    "SELECT * FROM ships WHERE length <= 50;",
)


@pytest.mark.parametrize(
    ("output", "right"),
    [
        ("SELECT * FROM ships WHERE NOT length > 50", True),
        ("SELECT id, name, flag, length FROM ships WHERE length < 51", True),
        ("SELECT * FROM ships WHERE length < 50", False),
        ("SELECT * FROM ships WHERE length <= 51", False),
        ("SELECT * FROM boats WHERE length <= 50", False),
        ("SELECT * FROM ships WHERE", False),
        ("SELECT 1; SELECT 2", False),
        ("DROP TABLE ships", False),
        ("ATTACH 'elsewhere.db' AS elsewhere", False),
    ],
)
def test_execution_compares_rows(output, right):
    assert same_rows(SHIPS, output) is right


def test_execution_minds_the_order_only_where_one_is_asked_for():
    prompt = "Table: ships(id, name, length)\nQuestion: ..."
    ordered = Example(prompt, "SELECT id FROM ships ORDER BY length DESC, id ASC;")
    assert same_rows(ordered, "SELECT id FROM ships ORDER BY length DESC, id")
    assert not same_rows(ordered, "SELECT id FROM ships ORDER BY length, id")
    assert same_rows(Example(prompt, "SELECT id FROM ships;"), "SELECT id FROM ships ORDER BY length")


def test_execution_stops_a_query_that_runs_on():
    endless = "SELECT COUNT(*) FROM ships a, ships b, ships c, ships d, ships e WHERE a.length + b.length > c.length"
    assert not same_rows(SHIPS, endless)


def test_contact_compares_values_not_text():
    score = get_task("contact").score
    answer = '{"name": "Zoë Thorne", "email": null, "phone": "555-0142", "company": null}'
    assert score(answer, json.dumps(json.loads(answer), indent=2, sort_keys=True))
    assert score(answer, f"```json\n{answer}\n```")
    assert not score(answer, answer.replace("0142", "0143"))
    assert not score(answer, answer.replace('"company": null', '"company": ""'))
    assert not score(answer, answer + " I hope this helps!")
    assert not score(answer, "[]")


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_contact_answers_hold_what_the_text_says_and_nothing_else(split):
    for example in get_task("contact").examples(split, 500, 2):
        answer = json.loads(example.answer)
        assert list(answer) == ["name", "email", "phone", "company"]
        assert any(answer[field] for field in ("name", "email", "company"))
        assert all(value is None or value in example.prompt for value in answer.values())
