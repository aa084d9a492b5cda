"""What a user states because a file does not: it is used, told apart, kept, and never put over the file's own word."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from adapter_hub.errors import RequestError, UnsupportedFeature
from adapter_hub.testing import logits

from ..models import peft_logits, save_adapter


@pytest.fixture
def adapter(bases, tmp_path):
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "up_proj"], use_rslora=True)
    return save_adapter(bases("llama"), tmp_path / "adapter", config)


@pytest.fixture
def bare(adapter, tmp_path):
    """The adapter's tensors alone."""
    path = tmp_path / "bare.safetensors"
    save_file(load_file(adapter / "adapter_model.safetensors"), path)
    return path


STATED = {"lora_alpha": 12, "use_rslora": True}


def test_a_scale_that_nobody_states_is_asked_for(bare, open_hub):
    with pytest.raises(UnsupportedFeature, match=r"lora_alpha.*state it: options=\{'lora_alpha': N\}"):
        open_hub().register("a", bare)


def test_what_is_stated_is_used(adapter, bare, bases, open_hub, ids):
    hub = open_hub()
    hub.load_adapter(bare, "a", options=STATED)
    torch.testing.assert_close(logits(hub, ["a"], ids), peft_logits(bases("llama"), adapter, ids), atol=1e-4, rtol=0)


def test_one_file_with_two_scales_is_two_adapters(bare, open_hub, ids):
    hub = open_hub()
    one = hub.load_adapter(bare, "one", options={"lora_alpha": 4})
    two = hub.load_adapter(bare, "two", options={"lora_alpha": 40})
    assert one.digest != two.digest
    mixed = logits(hub, ["one", "two"], ids.repeat(2, 1))
    assert (mixed[0] - mixed[1]).abs().max() > 0.1


def test_what_was_stated_is_kept_with_the_name(bare, open_hub, tmp_path, ids):
    registry = tmp_path / "registry.sqlite3"
    hub = open_hub(registry=registry)
    digest = hub.load_adapter(bare, "a", options=STATED).digest
    expected = logits(hub, ["a"], ids)
    again = open_hub(registry=registry)
    assert (again.info("a").options, again.info("a").digest) == (STATED, digest)
    again.set_adapter("a")
    assert torch.equal(logits(again, ["a"], ids), expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lora_alpha": 8}, "lora_alpha=8 was stated, and the adapter's own file says 12"),
        ({"use_rslora": False}, "use_rslora=False was stated, and .* says True"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"lora_alpha": float("nan")}, "lora_alpha has the value nan"),
        ({"lora_alpha": None}, "lora_alpha has the value None"),
        ({"alpha_pattern": {1: 2}}, "alpha_pattern has the value"),
        ({5: 8}, "option 5 has the value"),
        ({"lora_alpha": {8}}, "lora_alpha has the value"),
    ],
)
def test_nothing_is_put_over_the_files_own_word(options, said, adapter, open_hub):
    hub = open_hub()
    with pytest.raises(RequestError, match=said):
        hub.register("a", adapter, options=options)
    assert hub.adapters() == []


def test_an_option_that_means_nothing_is_refused_by_name(bare, open_hub):
    with pytest.raises(UnsupportedFeature, match="the setting alhpa=8"):
        open_hub().register("a", bare, options={"lora_alpha": 8, "alhpa": 8})


def test_the_same_word_as_the_files_own_is_no_contradiction(adapter, open_hub):
    assert json.loads((adapter / "adapter_config.json").read_text())["lora_alpha"] == 12
    assert open_hub().register("a", adapter, options={"lora_alpha": 12}).sites == 4
