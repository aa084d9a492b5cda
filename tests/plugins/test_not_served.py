"""Every type that PEFT knows is served, or refused by its name with a way out."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, PeftType
from safetensors.torch import save_file

from adapter_hub import Settings
from adapter_hub.errors import UnsupportedFeature
from adapter_hub.loading import AdapterLoader, inspect_folder
from adapter_hub.plugin_manager import load_plugins
from plugins.not_served import REASONS

from ..models import save_adapter

FURTHER = {"IA3"}  # a distribution of its own


@pytest.mark.parametrize("kind", [kind.value for kind in PeftType])
def test_no_type_of_peft_is_unknown(kind):
    config = {"peft_type": kind}
    served = [variant.name for variant in load_plugins().variants if variant.matches(config)]
    assert len(served) == 1 or kind in FURTHER
    assert (kind in REASONS) == (served == ["not-served"])


@pytest.mark.parametrize("kind", sorted(REASONS))
def test_what_is_not_served_says_why_and_what_to_do(kind, open_hub, tmp_path):
    save_file(
        {"base_model.model.model.layers.0.self_attn.q_proj.weight": torch.ones(2)},
        tmp_path / "adapter_model.safetensors",
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
    with pytest.raises(UnsupportedFeature, match=rf"type {kind}.*(Serve it|serve it|Register|Merge)"):
        open_hub().register("a", tmp_path)
    loader = AdapterLoader(load_plugins(), Settings())
    refused = inspect_folder(tmp_path, loader).refused
    loader.close()
    assert kind in refused[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_bdlora", {"target_modules_bd_a": ["q_proj"]}),
        ("use_qalora", True),
        ("kasa_config", {"beta": 1}),
        ("velora_config", {"rank": 1}),
        ("monteclora_config", {"samples": 2}),
        ("arrow_config", {"top_k": 3}),
        ("layer_replication", [[0, 1]]),
    ],
)
def test_flags_of_lora_that_change_its_mathematics_are_refused_by_name(field, value, bases, open_hub, tmp_path):
    adapter = save_adapter(bases(), tmp_path / "a", LoraConfig(r=4, target_modules=["q_proj"]))
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(UnsupportedFeature, match=field):
        open_hub().register("a", adapter)
