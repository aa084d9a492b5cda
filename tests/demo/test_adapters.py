"""The trained adapters of the demo: complete, small, free of traces of the machine, and far better than the base."""

import json
from pathlib import Path

import pytest

from demo.tasks import all_tasks
from demo.train.card import Card
from demo.train.recipe import RECIPES

ADAPTERS = Path(__file__).parents[2] / "demo" / "adapters"
FOLDERS = sorted(folder for folder in ADAPTERS.iterdir() if folder.is_dir())
CARD = {"README.md", "card.json"}
PEFT, NATIVE = ("adapter_config.json", "adapter_model.safetensors"), ("adapter.json", "adapter.safetensors")


def _pair(folder):
    return PEFT if (folder / PEFT[0]).is_file() else NATIVE


def test_every_recipe_has_its_adapter_and_every_task_its_recipe():
    assert {folder.name for folder in FOLDERS} == set(RECIPES)
    assert {recipe.task for recipe in RECIPES.values()} == set(all_tasks())


def test_each_is_of_a_method_of_its_own():
    methods = [Card.read(folder).method for folder in FOLDERS]
    assert len(set(methods)) == len(methods)
    assert methods == [RECIPES[folder.name].method.title for folder in FOLDERS]


def test_all_together_they_are_small():
    assert sum(path.stat().st_size for folder in FOLDERS for path in folder.iterdir()) < 60_000_000


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
class TestAdapter:
    def test_it_is_complete(self, folder):
        assert {path.name for path in folder.iterdir()} == {*CARD, *_pair(folder)}

    def test_it_names_its_base_and_no_path_of_the_machine_that_trained_it(self, folder):
        config = json.loads((folder / _pair(folder)[0]).read_text(encoding="utf-8"))
        assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
        for name in {*CARD, _pair(folder)[0]}:
            text = (folder / name).read_text(encoding="utf-8")
            assert not [trace for trace in ("/tmp", "/root", "/home", "/work") if trace in text]

    def test_it_is_far_better_than_the_base(self, folder):
        scores = Card.read(folder).scores
        assert scores is not None
        assert scores.num_unseen >= 100
        assert scores.adapter_score >= scores.base_score + 0.8

    def test_its_card_says_what_its_readme_says(self, folder, tmp_path):
        card = Card.read(folder)
        assert card.name == folder.name
        assert card.task in all_tasks()
        card.write(tmp_path)
        for name in ("card.json", "README.md"):
            assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
