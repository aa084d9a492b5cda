"""Bases whose numbers stay in their checkpoint."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM as Auto

from adapter_hub.base import load_base
from adapter_hub.base.stored import StoredBase
from adapter_hub.errors import BaseModelError, ShapeMismatch
from adapter_hub.loading import Checkpoint

WEIGHTS = "model.safetensors"


@pytest.mark.parametrize("kind", ["llama", "llama-tied", "qwen2", "gpt2", "bloom"])
def test_it_is_the_loaded_base_without_its_memory(kind, bases):
    loaded, stored = load_base(bases(kind), quantization=None), StoredBase(Checkpoint(bases(kind)), name="x")
    assert stored.fingerprint == loaded.fingerprint
    assert dict(stored.sites) == dict(loaded.sites)
    assert all(parameter.is_meta for parameter in stored.model.parameters())
    for path, site in loaded.sites.items():
        for name in site.parameters:
            assert torch.equal(stored.parameter(path, name), loaded.parameter(path, name))
        if site.kind == "linear":
            assert torch.equal(stored.dense_weight(path), loaded.dense_weight(path))
    table = next(path for path, site in loaded.sites.items() if site.kind == "embedding")
    assert stored.head_tied_to(table) == loaded.head_tied_to(table)


def _copy(base, folder):
    shutil.copytree(base, folder)
    return folder


def test_shards_and_names_of_the_inner_model_are_read(bases, tmp_path):
    model = Auto.from_pretrained(bases("gpt2"))
    inner = _copy(bases("gpt2"), tmp_path / "inner")
    model.base_model.save_pretrained(inner)
    assert "wte.weight" in load_file(inner / WEIGHTS)
    sharded = _copy(bases("gpt2"), tmp_path / "sharded")
    (sharded / WEIGHTS).unlink()
    model.save_pretrained(sharded, max_shard_size="50KB")
    expected = load_base(bases("gpt2"), quantization=None).fingerprint
    for folder in (inner, sharded):
        assert StoredBase(Checkpoint(folder), name="x").fingerprint == expected


def test_what_is_no_base_is_refused(bases, tmp_path):
    damaged = _copy(bases(), tmp_path / "damaged")
    tensors = load_file(damaged / WEIGHTS)
    norm = tensors.pop("model.norm.weight")
    save_file(tensors, damaged / WEIGHTS)
    with pytest.raises(BaseModelError, match=r"no tensor model.norm.weight.*save_original_format"):
        StoredBase(Checkpoint(damaged), name="x")
    save_file({**tensors, "model.norm.weight": norm[:-1].clone()}, damaged / WEIGHTS)
    with pytest.raises(ShapeMismatch, match=r"model.norm.weight of .* is \[63\], not \[64\]"):
        StoredBase(Checkpoint(damaged), name="x")
    quantised = _copy(bases(), tmp_path / "quantised")
    config = json.loads((quantised / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (quantised / "config.json").write_text(json.dumps(config))
    with pytest.raises(BaseModelError, match="stored quantised"):
        StoredBase(Checkpoint(quantised), name="x")
    (damaged / "config.json").unlink()
    with pytest.raises(BaseModelError, match="is no base"):
        StoredBase(Checkpoint(damaged), name="x")
