"""Loading a base in 4 bit and otherwise, its report, its fingerprint and its sites."""

from __future__ import annotations

import bitsandbytes as bnb
import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from adapter_hub import Settings
from adapter_hub.base import load_base
from adapter_hub.errors import BaseModelError, UnknownSite
from adapter_hub.testing import VOCABULARY, tiny_tokenizer


@pytest.fixture
def base(bases):
    return load_base(bases("llama"), quantization=None)


def test_sites_carry_their_logical_shapes(base, bases):
    q = base.site("model.layers.0.self_attn.k_proj")
    assert (q.kind, q.in_features, q.out_features, q.parameters) == ("linear", 64, 32, {"weight": (32, 64)})
    table = base.site("model.embed_tokens")
    assert (table.kind, table.in_features, table.out_features) == ("embedding", VOCABULARY, 64)
    assert base.site("model.norm").parameters == {"weight": (64,)}
    quantised = load_base(bases("llama"))
    assert dict(quantised.sites) == dict(base.sites)
    conv = load_base(bases("gpt2"), quantization=None).site("transformer.h.0.attn.c_attn")
    assert (conv.kind, conv.in_features, conv.out_features) == ("linear", 64, 192)


def test_an_unknown_site_names_its_neighbours(base):
    with pytest.raises(UnknownSite, match=r"no module 'model.layers.5.mlp.up_proj'.*Close to it are model\.layers"):
        base.site("model.layers.5.mlp.up_proj")


def test_the_fingerprint_tells_bases_apart_and_not_their_quantisation(bases):
    plain = load_base(bases("llama"), quantization=None)
    assert plain.fingerprint == load_base(bases("llama")).fingerprint
    assert plain.fingerprint == load_base(bases("llama"), quantization=None, dtype="bfloat16").fingerprint
    assert plain.fingerprint != load_base(bases("llama-tied"), quantization=None).fingerprint
    with torch.no_grad():
        plain.model.model.norm.weight[3] += 0.1
    from adapter_hub.base.sites import fingerprint

    assert fingerprint(plain.model, plain.sites, plain.parameter) != plain.fingerprint


def test_the_report_counts_what_is_there(bases):
    exact = load_base(bases("llama"), settings=Settings(cpu_kernel="exact")).report()
    full = load_base(bases("llama"), quantization=None, dtype="float32").report()
    assert exact.parameters == full.parameters
    assert full.weight_bytes == 4 * full.parameters
    assert (full.bits_per_weight, full.constant_bytes) == (None, 0)
    # 4 bits, one byte for each 64 weights, and second-level scales of 256 blocks a linear this small has one of
    assert 4.125 < exact.bits_per_weight < 4.2
    assert exact.as_dict()["architecture"] == "LlamaForCausalLM"


def test_nf4_is_doubly_quantised_and_computes_in_bfloat16(bases):
    base = load_base(bases("llama"), settings=Settings(cpu_kernel="exact"))
    linear = base.module("model.layers.0.mlp.up_proj")
    assert isinstance(linear, bnb.nn.Linear4bit)
    assert (linear.weight.quant_state.quant_type, linear.weight.quant_state.nested) == ("nf4", True)
    assert (linear.compute_dtype, base.compute_dtype) == (torch.bfloat16, torch.bfloat16)
    assert not any(p.requires_grad for p in base.model.parameters())


def test_a_checkpoint_stored_in_4_bit_loads_as_it_is(bases, tmp_path, ids):
    plan = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    stored = AutoModelForCausalLM.from_pretrained(bases("llama"), quantization_config=plan, dtype=torch.float32)
    stored.save_pretrained(tmp_path / "stored")
    tiny_tokenizer().save_pretrained(tmp_path / "stored")
    fresh = load_base(bases("llama"), dtype="float32")
    for quantization in ("nf4", None):
        base = load_base(tmp_path / "stored", quantization=quantization, dtype="float32")
        assert isinstance(base.module("model.layers.0.mlp.up_proj"), bnb.nn.Linear4bit)
        assert base.fingerprint == fresh.fingerprint
        assert torch.equal(base.model(ids).logits, fresh.model(ids).logits)


@pytest.mark.parametrize("kernel", ["fast", "exact"])
def test_the_layout_of_cpu_weights_is_settled_before_the_first_forward(kernel, bases, ids):
    base = load_base(bases("llama"), settings=Settings(cpu_kernel=kernel))
    before = {name: p.clone() for name, p in base.model.named_parameters()}
    first = base.model(ids).logits
    assert all(torch.equal(p, before[name]) for name, p in base.model.named_parameters())
    assert torch.equal(base.model(ids).logits, first)


def test_linears_whose_shape_the_fast_product_does_not_know_still_run(tmp_path, ids):
    from transformers import LlamaConfig

    from ..models import _LLAMA, _SMALL

    odd = LlamaConfig(**_SMALL, **{**_LLAMA, "intermediate_size": 100, "hidden_size": 40})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(odd).save_pretrained(tmp_path / "odd")
    tiny_tokenizer().save_pretrained(tmp_path / "odd")
    base = load_base(tmp_path / "odd", settings=Settings(cpu_kernel="fast"))
    assert torch.isfinite(base.model(ids).logits).all()


def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BaseModelError, match=str(tmp_path)):
        load_base(tmp_path)
    with pytest.raises(BaseModelError, match="nowhere"):
        load_base(tmp_path / "nowhere")


@pytest.mark.parametrize("kernel", ["fast", "exact"])
def test_asking_for_its_state_leaves_the_base_as_it_was(kernel, bases, ids):
    base = load_base(bases("llama"), settings=Settings(cpu_kernel=kernel))
    before, logits = {name: p.clone() for name, p in base.model.named_parameters()}, base.model(ids).logits
    for _ in range(3):
        base.model.state_dict()
    assert all(torch.equal(p, before[name]) for name, p in base.model.named_parameters())
    assert torch.equal(base.model(ids).logits, logits)


@pytest.mark.parametrize("rows", [1, 3])
def test_the_head_makes_one_product_of_the_last_positions(rows, bases, ids):
    """torch copies a frozen weight once a row where a slice comes in, as generation's prefill does."""
    base = load_base(bases("llama"), quantization=None)
    ids = ids.repeat(rows, 1)
    with torch.inference_mode():
        expected = base.model(ids).logits[:, -1:]
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            found = base.model(ids, logits_to_keep=1).logits
    assert "aten::bmm" not in {event.name for event in profile.events()}
    torch.testing.assert_close(found, expected)
