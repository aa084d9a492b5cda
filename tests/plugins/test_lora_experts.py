"""LoRA on a mixture's experts and router, in the files of both generations, against PEFT in float32."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from adapter_hub.errors import AdapterError
from adapter_hub.testing import assert_rows_as_alone

from ..models import peft_logits, peft_text, save_adapter, served

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
CASES = {
    "both": ("mixtral", {"target_parameters": EXPERTS, "target_modules": ["q_proj"]}),
    "other-order": ("mixtral", {"target_parameters": ["experts.down_proj", "experts.gate_up_proj"]}),
    "down": ("mixtral", {"target_parameters": ["down_proj"], "use_rslora": True}),
    "gate-up": ("mixtral", {"target_parameters": EXPERTS[:1]}),
    "router": ("mixtral", {"target_parameters": ["gate.weight", *EXPERTS], "target_modules": ["v_proj"]}),
    "patterns": (
        "mixtral",
        {
            "target_parameters": EXPERTS,
            "rank_pattern": {"experts.gate_up_proj": 2},
            "alpha_pattern": {"layers.1.mlp.experts.down_proj": 30},
        },
    ),
    "qwen3-moe": ("qwen3-moe", {"target_parameters": EXPERTS, "target_modules": ["q_proj"]}),
    "gpt-oss": ("gpt-oss", {"target_parameters": EXPERTS, "target_modules": ["q_proj"]}),
    "saved-router": ("mixtral", {"target_modules": ["q_proj"], "modules_to_save": ["gate"]}),
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


def _save(case, bases, folder):
    kind, fields = CASES[case]
    config = LoraConfig(**{"r": 3, "lora_alpha": 5, "target_modules": [], **fields})
    return kind, save_adapter(bases(kind), folder / case, config)


@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_text_equal_peft(case, bases, open_hub, ids, tmp_path):
    kind, adapter = _save(case, bases, tmp_path)
    hub = open_hub(kind)
    bare = hub.model(ids).logits
    hub.load_adapter(adapter, "a")
    logits, text = served(hub, "a", ids, 8)
    expected = peft_logits(bases(kind), adapter, ids)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (expected - bare).abs().max() > 0.05
    assert torch.equal(text, peft_text(bases(kind), adapter, ids, 8))
    hub.unload()
    assert torch.equal(hub.model(ids).logits, bare)


def test_rows_of_a_mixed_batch_are_as_alone(bases, open_hub, tmp_path):
    hub = open_hub("mixtral")
    cases = [case for case in CASES if CASES[case][0] == "mixtral"]
    for case in cases:
        hub.load_adapter(_save(case, bases, tmp_path)[1], case)
    hub.load_adapter(_old(tmp_path / "old"), "old")
    assert_rows_as_alone(hub, [None, *cases, "old", None])


def _old(folder, fields=()):
    """As the models of before were trained: a pair for each linear of each expert, and for the router."""
    generator = torch.Generator().manual_seed(3)
    tensors = {}

    def draw(path, outputs, inputs, rank=3):
        tensors[f"base_model.model.{path}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator) * 0.3
        tensors[f"base_model.model.{path}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator) * 0.3

    for layer in range(2):
        block = f"model.layers.{layer}.block_sparse_moe"
        for expert in range(4):
            draw(f"{block}.experts.{expert}.w1", 128, 64)
            draw(f"{block}.experts.{expert}.w3", 128, 64)
            draw(f"{block}.experts.{expert}.w2", 64, 128)
        draw(f"{block}.gate", 4, 64)
        draw(f"model.layers.{layer}.self_attn.q_proj", 64, 64)
    folder.mkdir()
    save_file(tensors, folder / WEIGHTS)
    targets = ["w1", "w2", "w3", "gate", "q_proj"]
    fields = {"peft_type": "LORA", "r": 3, "lora_alpha": 5, "target_modules": targets, **dict(fields)}
    (folder / CONFIG).write_text(json.dumps(fields))
    return folder


def test_pairs_of_single_experts_from_models_of_before_are_what_peft_makes_of_them(bases, open_hub, ids, tmp_path):
    adapter = _old(tmp_path / "old")
    hub = open_hub("mixtral")
    bare = hub.model(ids).logits
    hub.load_adapter(adapter, "a")
    with hub.rows(["a"]):
        logits = hub.model(ids).logits
    torch.testing.assert_close(logits, peft_logits(bases("mixtral"), adapter, ids), atol=1e-4, rtol=0)
    assert (logits - bare).abs().max() > 0.05


def test_a_part_of_the_experts_may_be_trained_and_with_ranks_of_their_own(open_hub, ids, tmp_path):
    """PEFT refuses such a file; what is right is the same file with zeros for what it leaves out."""
    adapter = _old(tmp_path / "whole")
    tensors = load_file(adapter / WEIGHTS)
    part = dict(tensors)
    for name in tensors:
        if ".experts.1." in name or ("layers.0" in name and ".w3." in name):
            del part[name]
            tensors[name] = torch.zeros_like(tensors[name])
        elif ".experts.2.w2." in name:
            part[name] = tensors[name].narrow(0 if "lora_A" in name else 1, 0, 1).contiguous()
            tensors[name].narrow(0 if "lora_A" in name else 1, 1, 2).zero_()
    save_file(tensors, adapter / WEIGHTS)
    hub = open_hub("mixtral")
    # The scale is alpha / rank, so the pair of rank 1 needs a third of alpha to be the same.
    hub.load_adapter(adapter, "whole")
    other = _old(tmp_path / "part", {"alpha_pattern": {"experts.2.w2": 5 / 3}})
    save_file(part, other / WEIGHTS)
    hub.load_adapter(other, "part")
    with hub.rows(["whole"]):
        whole = hub.model(ids).logits
    with hub.rows(["part"]):
        torch.testing.assert_close(hub.model(ids).logits, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("case", "change", "said"),
    [
        ("both", lambda t: t.pop(_first(t, "experts.lora_B")), "missing beside"),
        ("both", lambda t: _drop(t, "base_layer"), "1 pairs .* 2 parameters"),
        ("both", lambda t: _cut(t, "experts.lora_A"), "no pairs of 4 experts"),
        ("both", lambda t: _cut(t, "experts.lora_A", 1), "does not fit down_proj"),
        ("router", lambda t: _cut(t, "gate.lora_B"), "does not fit weight"),
    ],
)
def test_damaged_files_are_refused(case, change, said, bases, open_hub, tmp_path):
    _, adapter = _save(case, bases, tmp_path)
    tensors = load_file(adapter / WEIGHTS)
    change(tensors)
    save_file(tensors, adapter / WEIGHTS)
    with pytest.raises(AdapterError, match=said):
        open_hub("mixtral").register("a", adapter)


@pytest.mark.parametrize(("field", "value"), [("init_lora_weights", "pissa"), ("use_dora", True)])
def test_experts_that_began_with_a_part_of_the_base_or_are_decomposed_are_refused(field, value, open_hub, tmp_path):
    with pytest.raises(AdapterError, match="experts"):
        open_hub("mixtral").register("a", _old(tmp_path / "old", {field: value}))


@pytest.mark.parametrize(
    ("case", "targets", "said"),
    [
        ("both", ["nothing"], "2 pairs .* 0 parameters"),
        ("both", "down_proj", "no list of names"),
        ("both", None, None),  # each stack has a pair, so there is no doubt
        ("down", None, "1 pairs .* 2 parameters"),
    ],
)
def test_names_of_parameters_are_needed_where_there_is_a_doubt(case, targets, said, bases, open_hub, ids, tmp_path):
    _, adapter = _save(case, bases, tmp_path)
    expected = peft_logits(bases("mixtral"), adapter, ids)
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**config, "target_parameters": targets}))
    hub = open_hub("mixtral")
    if said is not None:
        with pytest.raises(AdapterError, match=said):
            hub.register("a", adapter)
        return
    hub.load_adapter(adapter, "a")
    with hub.rows(["a"]):
        torch.testing.assert_close(hub.model(ids).logits, expected, atol=1e-4, rtol=0)


def _first(tensors, part):
    return next(name for name in tensors if part in name)


def _drop(tensors, part):
    for name in [name for name in tensors if part in name]:
        del tensors[name]


def _cut(tensors, part, dim=0):
    name = _first(tensors, part)
    tensors[name] = tensors[name].narrow(dim, 0, tensors[name].shape[dim] - 1).contiguous()
