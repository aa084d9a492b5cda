"""LoRA in all its settings against PEFT in float32, one row at a time."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, TrainableTokensConfig
from safetensors.torch import load_file, save_file

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature

from ..models import peft_logits, peft_text, save_adapter, served

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

CASES = {
    "plain": ("llama", {"r": 4, "lora_alpha": 12, "target_modules": ALL}),
    "rslora": ("llama", {"r": 4, "lora_alpha": 12, "target_modules": ALL, "use_rslora": True}),
    "patterns": (
        "llama",
        {
            "r": 4,
            "lora_alpha": 12,
            "target_modules": ALL,
            "use_rslora": True,
            "rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 8},
            "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 3, "up_proj": 40},
        },
    ),
    "bias-lora-only": ("qwen2", {"r": 4, "target_modules": ["q_proj", "v_proj"], "bias": "lora_only"}),
    "bias-all": ("qwen2", {"r": 4, "target_modules": ["q_proj", "o_proj"], "bias": "all"}),
    "lora-bias": ("qwen2", {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "up_proj"], "lora_bias": True}),
    "conv1d": ("gpt2", {"r": 4, "lora_alpha": 12, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "conv1d-bias": ("gpt2", {"r": 4, "target_modules": ["c_attn"], "fan_in_fan_out": True, "bias": "all"}),
    "fused-qkv": ("bloom", {"r": 4, "lora_alpha": 12, "target_modules": ["query_key_value", "dense"]}),
    "embedding": ("llama", {"r": 4, "lora_alpha": 12, "target_modules": ["embed_tokens", "q_proj", "lm_head"]}),
    "embedding-tied": ("llama-tied", {"r": 4, "lora_alpha": 12, "target_modules": ["embed_tokens", "q_proj"]}),
    "embedding-weight-tying": (
        "llama-tied",
        {"r": 4, "lora_alpha": 12, "target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True},
    ),
    "saved-head": ("llama", {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "saved-head-tied": ("llama-tied", {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "saved-table": ("llama", {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    "saved-table-tied": ("llama-tied", {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    "saved-norms": ("llama", {"r": 4, "target_modules": ["q_proj"], "modules_to_save": ["norm", "mlp"]}),
    "saved-conv1d": ("gpt2", {"r": 4, "target_modules": ["c_attn"], "modules_to_save": ["mlp", "ln_f"]}),
    "tokens": ("llama", {"r": 4, "target_modules": ["q_proj"], "trainable_token_indices": [9, 4, 50]}),
    "tokens-tied": ("llama-tied", {"r": 4, "target_modules": ["q_proj"], "trainable_token_indices": [9, 4, 50]}),
    "tokens-by-module": (
        "llama",
        {
            "r": 4,
            "target_modules": ["q_proj"],
            "trainable_token_indices": {"embed_tokens": [9, 4], "lm_head": [7, 50]},
        },
    ),
    "some-layers": ("llama", {"r": 4, "target_modules": ["up_proj"], "layers_to_transform": [1]}),
    "gaussian": ("llama", {"r": 4, "target_modules": ALL, "init_lora_weights": "gaussian"}),
    "orthogonal": ("llama", {"r": 4, "target_modules": ALL, "init_lora_weights": "orthogonal"}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT comments on tied and saved embeddings
def test_logits_and_greedy_text_equal_peft(case, bases, open_hub, tmp_path, ids):
    kind, fields = CASES[case]
    adapter = save_adapter(bases(kind), tmp_path / "adapter", LoraConfig(**fields))
    ids[0, 3], ids[0, 7] = 9, 50
    hub = open_hub(kind)
    hub.load_adapter(adapter, "a")
    bare = hub.model(ids).logits
    logits, text = served(hub, "a", ids, 16)
    expected = peft_logits(bases(kind), adapter, ids)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (expected - bare).abs().max() > 0.05, "the case must change the logits to prove anything"
    assert torch.equal(text, peft_text(bases(kind), adapter, ids, 16))
    torch.testing.assert_close(bare, peft_logits(bases(kind), None, ids), atol=0, rtol=0)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_each_row_of_a_mixed_batch_is_what_it_is_alone(case, bases, open_hub, tmp_path, ids):
    kind, fields = CASES[case]
    hub = open_hub(kind)
    hub.load_adapter(save_adapter(bases(kind), tmp_path / "a", LoraConfig(**fields)), "a")
    targets = ["c_attn"] if kind == "gpt2" else ["dense"] if kind == "bloom" else ["q_proj", "lm_head"]
    plain = LoraConfig(r=2, target_modules=targets[:1], fan_in_fan_out=kind == "gpt2")
    hub.load_adapter(save_adapter(bases(kind), tmp_path / "b", plain, seed=2), "b")
    ids[0, 3], ids[0, 7] = 9, 50
    names = ["a", None, "b", "a", None]
    batch = ids.repeat(5, 1).roll(2, 1)
    with hub.rows(names):
        mixed = hub.model(batch).logits
    for k, name in enumerate(names):
        with hub.rows([name]):
            torch.testing.assert_close(mixed[k : k + 1], hub.model(batch[k : k + 1]).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "llama-tied"])
def test_trainable_tokens_alone(kind, bases, open_hub, tmp_path, ids):
    adapter = save_adapter(bases(kind), tmp_path / "a", TrainableTokensConfig(token_indices=[9, 4, 50]))
    ids[0, 3] = 50
    hub = open_hub(kind)
    assert hub.load_adapter(adapter, "a").variant == "trainable-tokens"
    with hub.rows(["a"]):
        torch.testing.assert_close(hub.model(ids).logits, peft_logits(bases(kind), adapter, ids), atol=1e-4, rtol=0)


def test_an_adapter_that_wraps_names_as_training_frameworks_do(bases, open_hub, tmp_path, ids):
    adapter = save_adapter(bases("llama"), tmp_path / "a", LoraConfig(r=4, target_modules=ALL))
    expected = peft_logits(bases("llama"), adapter, ids)
    tensors = load_file(adapter / "adapter_model.safetensors")
    raw = {"module._orig_mod." + name.replace(".weight", ".default.weight"): tensor for name, tensor in tensors.items()}
    save_file(raw, adapter / "adapter_model.safetensors")
    hub = open_hub()
    hub.load_adapter(adapter, "a")
    with hub.rows(["a"]):
        torch.testing.assert_close(hub.model(ids).logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("init_lora_weights", "pissa_niter_4", "found by chance.*path_initial_model_for_weight_conversion"),
        ("init_lora_weights", "corda", "depends on data"),
        ("init_lora_weights", "lora_ga", "depends on data"),
        ("init_lora_weights", "loftq", "quantised base that LoftQ made"),
        ("init_lora_weights", ["pissa"], "init_lora_weights"),
        ("use_qalora", True, "use_qalora"),
        ("layer_replication", [[0, 1]], "layer_replication"),
        ("a_setting_of_tomorrow", 3, "a_setting_of_tomorrow"),
        ("kasa_config", {}, "kasa_config"),
        ("lora_alpha", None, "lora_alpha"),
        ("lora_alpha", float("nan"), "lora_alpha"),
        ("alpha_pattern", ["q_proj"], "alpha_pattern"),
        ("alpha_pattern", {"q_proj": "much"}, "alpha_pattern"),
        ("alpha_pattern", {"(q_proj": 2}, "alpha_pattern"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused_by_name(field, value, said, bases, open_hub, tmp_path):
    adapter = save_adapter(bases("llama"), tmp_path / "a", LoraConfig(r=4, target_modules=["q_proj"]))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, field: value}))
    hub = open_hub()
    with pytest.raises(UnsupportedFeature, match=said):
        hub.register("a", adapter)
    assert hub.adapters() == []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_saved_modules_that_are_no_list_are_refused_by_name(bases, open_hub, tmp_path):
    config = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    adapter = save_adapter(bases("llama-tied"), tmp_path / "a", config)
    hub = open_hub("llama-tied")
    for value in (5, "embed_tokens", [5]):
        fields = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(json.dumps({**fields, "modules_to_save": value}))
        with pytest.raises(UnsupportedFeature, match="modules_to_save"):
            hub.register("a", adapter)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_in_16_bit_lose_nothing_to_the_scale(dtype, bases, open_hub, tmp_path, ids):
    config = LoraConfig(r=4, lora_alpha=1, target_modules=ALL)
    adapter = save_adapter(bases("llama"), tmp_path / "a", config)
    weights = adapter / "adapter_model.safetensors"
    # Small values in B, as at the end of a training, lie where float16 has few bits left.
    sizes = {"lora_A": 3e3, "lora_B": 1e-6}
    tensors = {n: t * next(size for part, size in sizes.items() if part in n) for n, t in load_file(weights).items()}
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, weights)
    hub = open_hub()
    hub.load_adapter(adapter, "a")
    with hub.rows(["a"]):
        torch.testing.assert_close(hub.model(ids).logits, peft_logits(bases("llama"), adapter, ids), atol=1e-4, rtol=0)


def test_half_a_pair_and_empty_pairs_are_refused(bases, open_hub, tmp_path):
    adapter = save_adapter(bases("llama"), tmp_path / "a", LoraConfig(r=4, target_modules=["q_proj"]))
    weights = adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    pair = [name for name in tensors if "layers.0" in name]
    hub = open_hub()
    save_file({name: t for name, t in tensors.items() if name != pair[1]}, weights)
    with pytest.raises(CorruptFile, match=r"lora_B\.weight is missing"):
        hub.register("a", adapter)
    save_file({**tensors, pair[0]: torch.zeros(0, 64), pair[1]: torch.zeros(64, 0)}, weights)
    with pytest.raises(ShapeMismatch, match="rank above 0"):
        hub.register("a", adapter)
    save_file({**tensors, pair[0]: torch.zeros(256)}, weights)
    with pytest.raises(ShapeMismatch, match="shards of a training run"):
        hub.register("a", adapter)
