"""DoRA, AdaLoRA and VeRA against PEFT in float32, alone and with everybody in one batch."""

from __future__ import annotations

import json

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, VeraConfig
from safetensors.torch import load_file, save_file

from adapter_hub.errors import AdapterError, CorruptFile, ShapeMismatch, UnsupportedFeature

from ..models import peft_logits, peft_text, save_adapter, served

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WEIGHTS = "adapter_model.safetensors"


def _dora(**fields):
    return LoraConfig(r=4, lora_alpha=12, use_dora=True, **{"target_modules": ALL, **fields})


def _adalora(**fields):
    return AdaLoraConfig(init_r=6, lora_alpha=12, total_step=10, target_modules=ALL, **fields)


def _drawn_again():
    with pytest.warns(UserWarning, match="save vera_A"):
        return VeraConfig(r=8, target_modules=ALL, save_projection=False, projection_prng_key=9)


CASES = {
    "dora": ("llama", _dora()),
    "dora-rslora-patterns": (
        "llama",
        _dora(use_rslora=True, rank_pattern={"q_proj": 2}, alpha_pattern={"up_proj": 40}),
    ),
    "dora-base-bias": ("qwen2", _dora()),
    "dora-own-bias": ("qwen2", _dora(bias="lora_only")),
    "dora-conv1d": ("gpt2", _dora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
    "dora-embedding": ("llama", _dora(target_modules=["embed_tokens", "q_proj", "lm_head"])),
    "dora-embedding-tied": ("llama-tied", _dora(target_modules=["embed_tokens", "q_proj"])),
    "dora-saved-norm": ("llama", _dora(modules_to_save=["norm"])),
    "adalora": ("llama", _adalora()),
    "adalora-bias": ("qwen2", _adalora(bias="lora_only")),
    "vera": ("llama", VeraConfig(r=8, target_modules=["q_proj", "o_proj"])),
    "vera-mixed-shapes": ("llama", VeraConfig(r=8, target_modules=ALL)),
    "vera-drawn-again": ("llama", _drawn_again()),
    "vera-bias": ("qwen2", VeraConfig(r=8, target_modules=["q_proj"], bias="vera_only")),
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT on saved embeddings and unsaved projections


@pytest.fixture
def make(bases, tmp_path):
    def make(case: str, seed: int = 1):
        kind, config = CASES[case]
        folder = save_adapter(bases(kind), tmp_path / f"{case}-{seed}", config, seed=seed)
        return kind, folder

    return make


@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_text_equal_peft(case, make, bases, open_hub, ids):
    kind, adapter = make(case)
    hub = open_hub(kind)
    assert hub.load_adapter(adapter, "a").variant == case.split("-")[0]
    bare = hub.model(ids).logits
    logits, text = served(hub, "a", ids, 16)
    expected = peft_logits(bases(kind), adapter, ids)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert (expected - bare).abs().max() > 0.05
    assert torch.equal(text, peft_text(bases(kind), adapter, ids, 16))
    hub.unload()
    assert torch.equal(hub.model(ids).logits, bare)


def test_every_variant_and_the_base_in_one_batch(bases, open_hub, make, ids, tmp_path):
    hub = open_hub("llama")
    plain = LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], modules_to_save=["norm", "lm_head"])
    hub.load_adapter(save_adapter(bases("llama"), tmp_path / "lora", plain), "lora")
    tokens = LoraConfig(r=2, target_modules=["up_proj"], trainable_token_indices=[5, 70])
    hub.load_adapter(save_adapter(bases("llama"), tmp_path / "tokens", tokens), "tokens")
    for case in [case for case, (kind, _) in CASES.items() if kind == "llama"]:
        hub.load_adapter(make(case)[1], case)
    names: list[str | None] = [None, *(info.name for info in hub.adapters()), None]
    batch = torch.stack([ids[0].roll(k) for k in range(len(names))])
    batch[:, 3] = 5
    with hub.rows(names):
        mixed = hub.model(batch).logits
    for k, name in enumerate(names):
        with hub.rows([name]):
            torch.testing.assert_close(mixed[k : k + 1], hub.model(batch[k : k + 1]).logits, atol=1e-4, rtol=0)
    prompts = [f"prompt {k}" for k in range(len(names))]
    alone = [hub.generate(p, adapter=n, max_new_tokens=8) for p, n in zip(prompts, names, strict=True)]
    assert hub.generate(prompts, adapters=names, max_new_tokens=8) == alone


def test_a_pruned_adalora_keeps_the_scale_of_its_first_rank(make, bases, open_hub, ids):
    _, adapter = make("adalora")
    tensors = load_file(adapter / WEIGHTS)
    whole = "base_model.model.model.layers.0.self_attn.q_proj"
    for name in list(tensors):
        site, _, part = name.rpartition(".")
        keep = 0 if site == whole else 4
        if part in ("lora_A", "lora_E"):
            tensors[name] = tensors[name][:keep].contiguous()
        elif part == "lora_B":
            tensors[name] = tensors[name][:, :keep].contiguous()
    full = load_file(adapter / WEIGHTS)
    for name in full:  # the same adapter for PEFT: what was pruned is zero there
        site, _, part = name.rpartition(".")
        if part == "lora_E":
            full[name][0 if site == whole else 4 :] = 0
    save_file(full, adapter / WEIGHTS)
    expected = peft_logits(bases("llama"), adapter, ids)
    save_file(tensors, adapter / WEIGHTS)
    hub = open_hub()
    info = hub.load_adapter(adapter, "a")
    assert info.sites == 13
    with hub.rows(["a"]):
        torch.testing.assert_close(hub.model(ids).logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("case", "change", "error", "said"),
    [
        ("dora", lambda t: t.pop(_first(t, "lora_A.weight")), AdapterError, "no low-rank pair|missing|of no use"),
        ("dora", lambda t: _cut(t, "lora_magnitude_vector"), ShapeMismatch, "lora_magnitude_vector"),
        ("adalora", lambda t: t.pop(_first(t, "lora_E")), CorruptFile, "lora_E is missing"),
        ("adalora", lambda t: _cut(t, "lora_E"), ShapeMismatch, "make no product"),
        ("vera", lambda t: t.pop(_first(t, "vera_lambda_b")), CorruptFile, "vera_lambda_b is missing"),
        ("vera", lambda t: t.pop("base_model.vera_A"), UnsupportedFeature, "vera_B alone"),
        ("vera", lambda t: _cut(t, "vera_B"), ShapeMismatch, "too small"),
    ],
)
def test_damaged_files_are_refused(case, change, error, said, make, open_hub):
    adapter = make(case)[1]
    tensors = load_file(adapter / WEIGHTS)
    change(tensors)
    save_file(tensors, adapter / WEIGHTS)
    with pytest.raises(error, match=said):
        open_hub().register("a", adapter)


@pytest.mark.parametrize(
    ("case", "field", "value"),
    [
        ("adalora", "init_r", None),
        ("adalora", "lora_alpha", "much"),
        ("adalora", "init_r", 0),
        ("adalora", "use_qalora", True),
        ("vera", "a_setting_of_tomorrow", 1),
        ("dora", "a_setting_of_tomorrow", 1),
    ],
)
def test_settings_without_which_it_would_be_wrong_are_refused(case, field, value, make, open_hub):
    adapter = make(case)[1]
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(UnsupportedFeature, match=field):
        open_hub().register("a", adapter)


def _first(tensors, end):
    return next(name for name in tensors if name.endswith(end))


def _cut(tensors, end):
    name = _first(tensors, end)
    tensors[name] = tensors[name][:-1].contiguous()
