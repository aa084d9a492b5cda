"""The dequantised weight is what the product multiplies with, before and after any forward, in either layout."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from adapter_hub import Settings
from adapter_hub.base import load_base
from adapter_hub.errors import UnsupportedFeature

SITE = "model.layers.0.mlp.up_proj"


@pytest.mark.parametrize(("kernel", "dtype"), [("exact", "float32"), ("fast", "float32"), ("fast", "bfloat16")])
def test_the_product_is_with_the_dense_weight(kernel, dtype, bases, ids):
    base = load_base(bases("llama"), dtype=dtype, settings=Settings(cpu_kernel=kernel))
    before = base.dense_weight(SITE)
    x = torch.randn(5, 64)
    with torch.inference_mode():
        base.model(ids)
        y = base.module(SITE)(x.to(base.compute_dtype)).float()
    assert torch.equal(base.dense_weight(SITE), before)
    expected = F.linear(x, before)
    bar = 1e-5 if (kernel, dtype) == ("exact", "float32") else 2e-2
    assert (y - expected).norm() / expected.norm() < bar


@pytest.mark.parametrize("kernel", ["exact", "fast"])
def test_it_is_near_what_was_quantised(kernel, bases):
    dense = load_base(bases("llama"), settings=Settings(cpu_kernel=kernel)).dense_weight(SITE)
    full = load_base(bases("llama"), quantization=None).dense_weight(SITE)
    assert (dense - full).norm() / full.norm() < 0.12


def test_a_conv1d_is_turned_to_out_by_in(bases):
    base = load_base(bases("gpt2"), quantization=None)
    assert base.dense_weight("transformer.h.0.attn.c_attn").shape == (192, 64)


def test_storage_that_cannot_be_read_is_refused(bases):
    base = load_base(bases("llama"), quantization=None)
    base.module(SITE).weight = torch.nn.Parameter(torch.zeros(8, 8, dtype=torch.int32), requires_grad=False)
    with pytest.raises(UnsupportedFeature, match=r"up_proj .* cannot be read as numbers"):
        base.dense_weight(SITE)
