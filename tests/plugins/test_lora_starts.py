"""LoRA that began with a part of the weight: as PEFT stores it, as PEFT converts it, and over a 4-bit base."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
import sys

import pytest
import torch
from peft import EvaConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import CordaConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM as Auto

from adapter_hub.errors import UnsupportedFeature
from adapter_hub.testing import random_ids

from ..models import peft_logits, peft_text, save_adapter, served

ALL = ["q_proj", "k_proj", "up_proj", "down_proj"]
CONV1D = {"target_modules": ["c_attn", "mlp.c_proj"], "fan_in_fan_out": True}
CASES = {
    "pissa": ("llama", {"init_lora_weights": "pissa"}),
    "pissa-rslora": ("qwen2", {"init_lora_weights": "pissa", "use_rslora": True, "rank_pattern": {"q_proj": 2}}),
    "pissa-conv1d": ("gpt2", {"init_lora_weights": "pissa", **CONV1D}),
    "olora": ("llama", {"init_lora_weights": "olora"}),
    "olora-bias": ("qwen2", {"init_lora_weights": "olora", "alpha_pattern": {"up_proj": 20}, "bias": "lora_only"}),
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def _config(case):
    return LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": ALL, **CASES[case][1]})


@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_text_equal_peft(case, bases, open_hub, ids, tmp_path):
    kind = CASES[case][0]
    adapter = save_adapter(bases(kind), tmp_path / case, _config(case), size=0.05)
    hub = open_hub(kind)
    bare = hub.model(ids).logits
    assert hub.load_adapter(adapter, "a").variant == "lora"
    logits, text = served(hub, "a", ids, 16)
    expected = peft_logits(bases(kind), adapter, ids)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (expected - bare).abs().max() > 0.05
    assert torch.equal(text, peft_text(bases(kind), adapter, ids, 16))


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "corda"])
def test_what_peft_converts_is_the_trained_model_on_the_plain_base(start, bases, open_hub, ids, tmp_path, monkeypatch):
    base = Auto.from_pretrained(bases())
    config = LoraConfig(r=4, init_lora_weights=start, target_modules=ALL)
    if start == "corda":
        config.corda_config = CordaConfig(corda_method="kpm")
        # Of attrs, which is not among its requirements, PEFT takes the name of the standard library's decorator.
        monkeypatch.setitem(sys.modules, "attr", dataclasses)
        corda = importlib.import_module("peft.tuners.lora.corda")
        corda.preprocess_corda(base, config, run_model=lambda: base(random_ids(1, 128)))
    model = get_peft_model(base, config)
    model.save_pretrained(tmp_path / "start")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    with torch.inference_mode():
        trained = model.eval()(ids).logits
    model.save_pretrained(tmp_path / "a", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    hub = open_hub()
    hub.load_adapter(tmp_path / "a", "a")
    with hub.rows(["a"]):
        torch.testing.assert_close(hub.model(ids).logits, trained, atol=1e-4, rtol=0)


def test_over_four_bit_the_part_is_taken_out_of_the_weight_as_it_was_stored(bases, open_hub, ids, tmp_path):
    adapter = save_adapter(bases(), tmp_path / "pissa", _config("pissa"), size=0.05)
    hub = open_hub(quantization="nf4", dtype="float32")
    hub.load_adapter(adapter, "a")
    # W + dW, where W is what NF4 made of the weight, and dW that of the trained model on the weight itself.
    merged = PeftModel.from_pretrained(Auto.from_pretrained(bases()), adapter).merge_and_unload().state_dict()
    dense = shutil.copytree(bases(), tmp_path / "dense")
    weights = load_file(dense / "model.safetensors")
    for path, site in hub.base.sites.items():
        if site.kind == "linear" and path != "lm_head":
            name = f"{path}.weight"
            weights[name] = hub.base.dense_weight(path) + merged[name] - weights[name]
    save_file(weights, dense / "model.safetensors", metadata={"format": "pt"})
    with hub.rows(["a"]):
        torch.testing.assert_close(hub.model(ids).logits, peft_logits(dense, None, ids), atol=1e-3, rtol=0)


def test_without_the_stored_weights_a_four_bit_base_is_not_enough(bases, open_hub, tmp_path, monkeypatch):
    adapter = save_adapter(bases(), tmp_path / "pissa", _config("pissa"))
    hub = open_hub(quantization="nf4")
    monkeypatch.setattr(hub.model.config, "name_or_path", str(tmp_path / "gone"))
    with pytest.raises(UnsupportedFeature, match=r"stored in 4 bit.*in 16 bit.*path_initial_model"):
        hub.register("a", adapter)


@pytest.mark.parametrize("start", ["gaussian", "orthogonal", "mica", "eva"])
def test_starts_that_leave_the_base_alone_are_plain_pairs(start, bases, open_hub, ids, tmp_path):
    eva = EvaConfig() if start == "eva" else None
    config = LoraConfig(r=4, init_lora_weights=start, target_modules=["q_proj", "up_proj"], eva_config=eva)
    adapter = save_adapter(bases(), tmp_path / "a", config)
    hub = open_hub()
    hub.load_adapter(adapter, "a")
    with hub.rows(["a"]):
        torch.testing.assert_close(hub.model(ids).logits, peft_logits(bases(), adapter, ids), atol=1e-4, rtol=0)
