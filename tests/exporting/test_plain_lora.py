"""Adapters written as plain LoRA: PEFT loads what is written, and its logits are the hub's."""

from __future__ import annotations

import json
import math

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoTokenizer

from adapter_hub.errors import RequestError, UnsupportedFeature
from adapter_hub.testing import VOCABULARY, logits

from ..composing.test_summed import with_tokenizer
from ..every import NAMES
from ..models import peft_logits, save_adapter
from ..plugins.test_new_tokens import NEW, resized
from ..plugins.test_peft_types import CASES as TYPES
from ..plugins.test_peft_types import make_case

# PEFT on saved embeddings, tied heads, pairs' biases, and on what it changes in a config
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
DENSE = ["dora", "ia3", "delta_lora-dense", "delta_lora-signs"]
EXACT = [name for name in NAMES if name not in DENSE]
ALL = ["q_proj", "v_proj", "up_proj", "down_proj"]


def _again(hub, folder, ids):
    """The hub's own reading of what it wrote."""
    hub.register("again", folder)
    try:
        return logits(hub, ["again"], ids)
    finally:
        hub.remove("again")
        hub.unload()


@pytest.mark.parametrize("name", [*EXACT, "lora*0.7+vera*0.3+adalora*-0.2", "lora_drop*0.5"])
def test_low_rank_adapters_of_every_variant_are_written_without_loss(name, full_hub, bases, ids, tmp_path):
    ids[0, 3] = 5  # a trained token
    exported = full_hub.export(name, tmp_path / "out", "lora")
    expected = logits(full_hub, [name], ids)
    torch.testing.assert_close(peft_logits(bases(), tmp_path / "out", ids), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(_again(full_hub, tmp_path / "out", ids), expected, atol=1e-4, rtol=0)
    assert (expected - logits(full_hub, [None], ids)).abs().max() > 0.02
    assert exported.relative_error == 0
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} == {*exported.files}
    assert len({path.stat().st_mode for path in exported.folder.iterdir()}) == 1, "all for the same readers"


@pytest.mark.parametrize("name", DENSE)
def test_what_has_no_low_rank_needs_a_rank_and_its_loss_is_told(name, full_hub, bases, ids, tmp_path):
    with pytest.raises(UnsupportedFeature, match=r"site model.* is no product of low rank\. Name the rank"):
        full_hub.export(name, tmp_path / "out", "lora")
    assert list(tmp_path.iterdir()) == []
    whole = full_hub.export(name, tmp_path / "whole", "lora", rank=64)
    expected = logits(full_hub, [name], ids)
    torch.testing.assert_close(peft_logits(bases(), tmp_path / "whole", ids), expected, atol=1e-3, rtol=0)
    assert whole.relative_error < 1e-5
    part = full_hub.export(name, tmp_path / "part", "lora", rank=3)
    tensors = load_file(tmp_path / "part" / "adapter_model.safetensors")
    assert {t.shape[0] for n, t in tensors.items() if "lora_A" in n} == {3}
    full = load_file(tmp_path / "whole" / "adapter_model.safetensors")
    for one in part.kept:
        path = f"base_model.model.{one.name}"
        short, long = (t[f"{path}.lora_B.weight"] @ t[f"{path}.lora_A.weight"] for t in (tensors, full))
        assert one.error == pytest.approx((long - short).norm().item(), rel=1e-3)
        assert one.change == pytest.approx(long.norm().item(), rel=1e-3)
        assert one.form == "rank 3 of dense" or one.form == "rank 3 of 12"
    lost = math.hypot(*(one.error for one in part.kept)) / math.hypot(*(one.change for one in part.kept))
    assert part.relative_error == pytest.approx(lost)
    assert f"{lost:.1%} of the adapter's change is lost" in (tmp_path / "part" / "README.md").read_text()
    assert 0 < part.relative_error < 1


# The rest of PEFT's types: those that are low rank, whatever form they are kept in, and those that are not.
PAIRED = ["loha", "lokr", "lokr-both", "lokr-factor", "hra", "hra-orthogonal", "miss", "vblora", "vblora-topk"]
UNPAIRED = ["lokr-whole", "oft", "boft", "road", "miss-bat", "shira", "c3a", "fourierft", "randlora"]


@pytest.mark.parametrize("case", PAIRED)
def test_other_types_of_low_rank_need_no_rank(case, bases, open_hub, ids, tmp_path):
    kind = TYPES[case][0]
    adapter, hub = make_case(case, bases(kind), tmp_path / "a"), open_hub(kind)
    hub.register("a", adapter)
    exported = hub.export("a", tmp_path / "out", "lora")
    assert exported.relative_error == 0
    expected = peft_logits(bases(kind), adapter, ids)
    torch.testing.assert_close(peft_logits(bases(kind), tmp_path / "out", ids), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", UNPAIRED)
def test_other_types_are_kept_at_a_rank(case, bases, open_hub, ids, tmp_path):
    kind = TYPES[case][0]
    adapter, hub = make_case(case, bases(kind), tmp_path / "a"), open_hub(kind)
    hub.register("a", adapter)
    with pytest.raises(UnsupportedFeature, match="Name the rank"):
        hub.export("a", tmp_path / "none", "lora")
    assert hub.export("a", tmp_path / "out", "lora", rank=64).relative_error < 1e-5
    assert 0 < hub.export("a", tmp_path / "part", "lora", rank=8).relative_error < 1
    expected = peft_logits(bases(kind), adapter, ids)
    torch.testing.assert_close(peft_logits(bases(kind), tmp_path / "out", ids), expected, atol=1e-3, rtol=0)


def test_a_rank_below_an_adapters_own_shortens_it(full_hub, bases, ids, tmp_path):
    exported = full_hub.export("lora*0.5+adalora*0.5", tmp_path / "out", "lora", rank=10)
    assert exported.relative_error < 1e-6
    expected = logits(full_hub, ["lora*0.5+adalora*0.5"], ids)
    torch.testing.assert_close(peft_logits(bases(), tmp_path / "out", ids), expected, atol=1e-4, rtol=0)
    shorter = full_hub.export("lora*0.5+adalora*0.5", tmp_path / "short", "lora", rank=4)
    assert 0.01 < shorter.relative_error < 1
    assert {one.form for one in shorter.kept} == {"rank 4 of 10"}
    assert json.loads((tmp_path / "short" / "adapter_config.json").read_text())["r"] == 4


def test_ranks_that_differ_by_site_are_told_in_patterns(bases, open_hub, ids, tmp_path):
    config = LoraConfig(
        r=6,
        lora_alpha=9,
        use_rslora=True,
        target_modules=[*ALL, "lm_head"],
        rank_pattern={"down_proj": 2, "layers.1.self_attn.q_proj": 3},
        alpha_pattern={"up_proj": 40},
    )
    hub = open_hub()
    hub.register("a", save_adapter(bases(), tmp_path / "a", config))
    hub.export("a", tmp_path / "out", "lora")
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (written["r"], written["lora_alpha"]) == (6, 6)
    assert written["rank_pattern"] == {"down_proj": 2, "model.layers.1.self_attn.q_proj": 3}
    assert written["alpha_pattern"] == written["rank_pattern"]
    assert written["target_modules"] == sorted([*ALL, "lm_head"])
    assert written["base_model_name_or_path"] == str(bases())
    expected = peft_logits(bases(), tmp_path / "a", ids)
    torch.testing.assert_close(peft_logits(bases(), tmp_path / "out", ids), expected, atol=1e-4, rtol=0)


CASES = {
    "some-layers": ("llama", LoraConfig(r=4, target_modules=ALL, layers_to_transform=[1])),
    "own-bias": ("qwen2", LoraConfig(r=4, target_modules=["q_proj"], bias="all")),
    "pair-bias": ("llama", LoraConfig(r=4, target_modules=["q_proj", "up_proj"], lora_bias=True)),
    "conv1d": ("gpt2", LoraConfig(r=4, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
    "embedding": ("llama", LoraConfig(r=4, target_modules=["embed_tokens", "q_proj"])),
    "embedding-tied": ("llama-tied", LoraConfig(r=4, target_modules=["embed_tokens"])),
    "tokens-tied": ("llama-tied", LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[5, 70])),
    "saved": ("llama", LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head", "norm", "embed_tokens"])),
    "saved-tied": ("llama-tied", LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens"])),
    "norms-with-biases": ("bloom", LoraConfig(r=4, target_modules=["dense"], modules_to_save=["ln_f"])),
}


@pytest.mark.parametrize("case", CASES)
def test_what_stands_beside_pairs_comes_along(case, bases, open_hub, ids, tmp_path):
    kind, config = CASES[case]
    ids[0, 3] = 5
    hub = open_hub(kind)
    hub.register("a", save_adapter(bases(kind), tmp_path / "a", config))
    hub.export("a", tmp_path / "out", "lora")
    expected = peft_logits(bases(kind), tmp_path / "a", ids)
    torch.testing.assert_close(peft_logits(bases(kind), tmp_path / "out", ids), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(_again(hub, tmp_path / "out", ids), expected, atol=1e-4, rtol=0)


def test_dora_beside_biases_and_tables_is_kept_at_a_rank(bases, open_hub, ids, tmp_path):
    config = LoraConfig(r=4, use_dora=True, target_modules=["q_proj", "embed_tokens"], bias="lora_only")
    hub = open_hub("qwen2")
    hub.register("a", save_adapter(bases("qwen2"), tmp_path / "a", config))
    hub.export("a", tmp_path / "out", "lora", rank=64)
    expected = peft_logits(bases("qwen2"), tmp_path / "a", ids)
    torch.testing.assert_close(peft_logits(bases("qwen2"), tmp_path / "out", ids), expected, atol=1e-3, rtol=0)


def test_a_full_precision_base_tells_the_norms_of_dora(bases, open_hub, ids, tmp_path):
    adapter = save_adapter(bases(), tmp_path / "a", LoraConfig(r=4, use_dora=True, target_modules=["q_proj"]))
    hub = open_hub(quantization="nf4", dtype="float32")
    hub.register("a", adapter)
    hub.export("a", tmp_path / "full", "lora", rank=64, full_base=bases())
    hub.export("a", tmp_path / "served", "lora", rank=64)
    expected = peft_logits(bases(), adapter, ids)
    torch.testing.assert_close(peft_logits(bases(), tmp_path / "full", ids), expected, atol=1e-3, rtol=0)
    assert (peft_logits(bases(), tmp_path / "served", ids) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["llama", "llama-tied"])
def test_added_tokens_come_along_with_their_tokenizer(kind, bases, open_hub, ids, tmp_path):
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(resized(bases(kind)), config).save_pretrained(tmp_path / "raw", save_embedding_layers=True)
    hub = open_hub(kind)
    hub.register("a", with_tokenizer(tmp_path / "raw", tmp_path / "a", token="<sql>", template="own"))
    hub.export("a", tmp_path / "out", "lora")
    ids[0, 4] = NEW - 1
    model = PeftModel.from_pretrained(resized(bases(kind)), tmp_path / "out").eval()
    with torch.inference_mode():
        found = model(ids).logits
    torch.testing.assert_close(found, logits(hub, ["a"], ids), atol=1e-4, rtol=0)
    torch.testing.assert_close(_again(hub, tmp_path / "out", ids), found, atol=1e-4, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer("<sql>")["input_ids"], tokenizer.chat_template) == ([VOCABULARY], "own")


def test_a_bias_of_a_pair_has_no_place_beside_an_embedding(bases, open_hub, tmp_path):
    hub = open_hub()
    for name, config in (
        ("a", LoraConfig(r=2, lora_bias=True, target_modules=["q_proj"])),
        ("b", LoraConfig(r=2, target_modules=["embed_tokens"])),
    ):
        hub.register(name, save_adapter(bases(), tmp_path / name, config))
    with pytest.raises(UnsupportedFeature, match="embed_tokens: PEFT has no biases of pairs"):
        hub.export("a*0.5+b*0.5", tmp_path / "out", "lora")
    with pytest.raises(RequestError, match="no way to export as 'LORA'"):
        hub.export("a", tmp_path / "out", "LORA")
    assert not (tmp_path / "out").exists()
