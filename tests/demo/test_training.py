"""Every training method, for a few steps on a tiny base: it learns, and what is served is what was trained."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from adapter_hub import AdapterHub, Settings
from adapter_hub.testing import random_ids
from demo.tasks import get_task
from demo.train.base_model import load_base
from demo.train.batches import make_batches
from demo.train.methods.calibration import calibrate
from demo.train.methods.learner import answer_loss
from demo.train.methods.lora_drop import choose
from demo.train.recipe import RECIPES, get_recipe
from demo.train.train import make_card, train

# Where what is saved is not what was trained, or only nearly: bfloat16 of small factors, one bit a weight.
LOSSY = {"times": 1.0}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*save vera_A:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning"),
]


@pytest.fixture
def trained(bases, tmp_path, monkeypatch):
    """Trains a recipe briefly and gives the folder, the run, and the logits of the model in training."""

    def run(name, steps=8):
        recipe = replace(get_recipe(name), num_steps=steps, batch_size=2)
        if name == "numbers":
            recipe = replace(recipe, method=replace(recipe.method, scout_steps=4))
        if name == "shell":
            recipe = replace(recipe, method=replace(recipe.method, start_step=3))
        if name == "times":
            recipe = replace(recipe, method=replace(recipe.method, calibration_steps=0))
        kept = {}
        start = type(recipe.method).start

        def remember(method, *arguments):
            kept["learner"] = start(method, *arguments)
            return kept["learner"]

        monkeypatch.setattr(type(recipe.method), "start", remember)
        outcome = train(recipe, bases(), tmp_path / name, seed=0)
        make_card(name, recipe, outcome, 0).write(tmp_path / name)
        causal_lm = kept["learner"].causal_lm.eval()
        with torch.inference_mode():
            return tmp_path / name, outcome, causal_lm(random_ids(2)).logits

    return run


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("contact",)])
def test_what_is_served_is_what_was_trained(name, trained, bases):
    folder, run, expected = trained(name)
    assert run.last_loss > 0
    quantization = None if name == "times" else "nf4"
    with AdapterHub.from_pretrained(
        bases(), quantization=quantization, dtype="float32", settings=Settings(allow_base_mismatch=True)
    ) as hub:
        bare = hub.model(random_ids(2)).logits
        hub.load_adapter(folder, name)
        with hub.rows([name, name]):
            served = hub.model(random_ids(2)).logits
        moved = (expected - bare).norm()
        assert moved > 0
        assert (served - expected).norm() / moved < LOSSY.get(name, 0.1)


def test_lora_drop_shares_what_puts_out_little(trained):
    folder, _, _ = trained("numbers")
    config = json.loads((folder / "adapter.json").read_text())
    tensors = load_file(folder / "adapter.safetensors")
    for group, paths in config["shared"].items():
        assert f"shared.{group}.lora_A.weight" in tensors
        assert not [path for path in paths if f"{path}.lora_A.weight" in tensors]


@pytest.mark.parametrize(("threshold", "shared"), [(0.5, ["a.q", "b.q", "d.q"]), (0.9, ["b.q"]), (1.0, [])])
def test_the_fewest_layers_that_carry_the_threshold_are_kept(threshold, shared):
    importance = {"a.q": 2.0, "b.q": 0.5, "c.q": 5.0, "d.q": 2.5, "c.v": 100.0}
    assert choose(importance, "q", threshold) == shared


def test_delta_lora_moves_the_weight_by_the_change_of_its_product(trained):
    folder, _, _ = trained("shell")
    tensors = load_file(folder / "adapter.safetensors")
    path = "model.layers.0.self_attn.q_proj"
    moved = tensors[f"{path}.delta_B"].float() @ tensors[f"{path}.delta_A"].float()
    assert moved.abs().max() > 0
    assert tensors[f"{path}.delta_A"].shape[0] == 2 * tensors[f"{path}.lora_A.weight"].shape[0]


def test_lora_fa_leaves_a_at_its_start_and_freeze_tuning_all_but_the_last_block(trained):
    folder, _, _ = trained("polite")
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        if "lora_A" in name:
            assert tensor.abs().max() <= 1.005 / tensor.shape[1] ** 0.5
    folder, _, _ = trained("triage")
    assert {name.split(".")[2] for name in load_file(folder / "adapter.safetensors")} == {"1"}


def test_calibration_lowers_the_loss_and_leaves_the_signs(trained, bases):
    folder, _, _ = trained("times")
    before = load_file(folder / "adapter.safetensors")
    base = load_base(bases())
    batches = make_batches(base, get_task("times").examples("train", 4, 0), 4, 0)
    losses = calibrate(folder, base, batches * 12, 3e-3)
    assert losses[-1] < 0.95 * losses[0]
    after = load_file(folder / "adapter.safetensors")
    assert all(torch.equal(after[name], before[name]) for name in before if name.endswith("delta_signs"))
    with (
        AdapterHub.from_pretrained(bases(), dtype="float32", settings=Settings(allow_base_mismatch=True)) as hub,
        torch.inference_mode(),
    ):
        hub.load_adapter(folder, "times")
        with hub.rows(["times"] * 4):
            assert answer_loss(hub.model, batches[0]).item() == pytest.approx(losses[-1], rel=0.02)
