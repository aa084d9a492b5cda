"""The evaluation: four ways to answer, a table of them, and a file that is taken up again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from demo import evaluate as evaluation
from demo.evaluate import BEGIN, END, Evaluation, main, table, write_between_marks
from demo.tasks import get_task


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A small run for real, with the file that it kept and the page that it wrote to."""
    folder = tmp_path_factory.mktemp("evaluation")
    page = folder / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    given = ["--examples", "2", "--json", str(folder / "kept.json"), "--write-readme", str(page)]
    main(["sql", "times", *given])
    return folder


def test_alone_mixed_and_merged_agree_and_the_base_does_not(measured):
    found = Evaluation(**json.loads((measured / "kept.json").read_text()))
    for name in ("sql", "times"):
        scores = {way: found.score(way, name) for way in found.answers}
        assert scores["base"] == 0
        assert scores["alone"] == scores["mixed"] == scores["merged"] == 1, name
    page = (measured / "page.md").read_text()
    assert page.startswith(f"before\n{BEGIN}\n| task | type | card, 200 examples | base | alone |")
    assert page.endswith(f"{END}\nafter\n")
    assert "old" not in page


def test_what_a_file_holds_is_not_asked_again(measured, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "answer_all", None)
    main(["sql", "times", "--examples", "2", "--json", str(measured / "kept.json")])
    assert "| Text to SQL | LoRA |" in capsys.readouterr().out


def test_a_wrong_answer_counts_and_so_does_another_wording():
    task = get_task("sql")
    found = Evaluation(4, 1, "base")
    right = [example.answer for example in found.examples("sql")]
    wrong = [*right[:3], "nothing"]
    found = replace(found, answers={"alone": {"sql": right}, "mixed": {"sql": wrong}})
    assert (found.score("alone", "sql"), found.score("mixed", "sql"), found.same("mixed", "sql")) == (1, 0.75, 0.75)
    assert task.title in table(found, ["sql"])
    assert "75.0 %" in table(found, ["sql"])


def test_a_page_without_marks_and_an_adapter_that_is_not_there_are_refused(tmp_path, capsys):
    (tmp_path / "page.md").write_text("nothing")
    with pytest.raises(ValueError, match="no marks"):
        write_between_marks(tmp_path / "page.md", "x")
    with pytest.raises(SystemExit):
        main(["nobody"])
    assert "there is no adapter nobody" in capsys.readouterr().err
