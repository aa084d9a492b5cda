"""Updates of a plugin's own class: composed and exported as the weights that they amount to."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM as Auto

from adapter_hub import hookimpl
from adapter_hub.errors import UnsupportedFeature
from adapter_hub.hookspecs import Lowered, Summary
from adapter_hub.testing import logits
from adapter_hub.updates.site import TensorFields

from ..models import peft_logits
from ..updates.frozen import drawer

PATHS = [f"model.layers.{k}.self_attn.q_proj" for k in range(2)]


@dataclass(frozen=True, eq=False)
class Turned(TensorFields):
    """y = base(R x), as adapters that rotate a linear's input have it; squared where ``power`` says so."""

    R: Tensor
    power: Tensor

    def check(self, site):
        """Anything goes."""

    def changes_nothing(self):
        return False

    def base_input(self, x):
        return x @ self.R.T

    def output(self, module, x, base_output):
        return base_output**2 if self.power.item() == 2 else base_output


class _Variant:
    name = "turned"

    def matches(self, config):
        return config.get("peft_type") == "TURNED"

    def describe(self, tensors, config):
        return Summary({}, "none")

    def lower(self, tensors, config, base):
        power = torch.tensor(float(config["power"]))
        return Lowered({name.removesuffix(".R"): Turned(tensors.pop(name), power) for name in list(tensors)})


class _Plugin:
    @hookimpl
    def adapter_hub_variants(self):
        return [_Variant()]


@pytest.fixture
def hub(open_hub, folders, tmp_path):
    hub = open_hub(plugins=[("turned", _Plugin())])
    for power in (1, 2):
        folder = tmp_path / f"power{power}"
        folder.mkdir()
        turns = {f"base_model.model.{path}.R": torch.eye(64) + 0.1 * drawer(k)(64, 64) for k, path in enumerate(PATHS)}
        save_file(turns, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "TURNED", "power": power}))
        hub.register(f"power{power}", folder)
    hub.register("a", folders[0])
    return hub


def test_a_class_that_amounts_to_a_weight_is_summed_kept_and_exported(hub, bases, ids, tmp_path):
    base = Auto.from_pretrained(bases(), dtype=torch.float32).eval()
    with torch.inference_mode():
        for k, path in enumerate(PATHS):
            weight = base.get_submodule(path).weight
            weight += 0.5 * weight @ (0.1 * drawer(k)(64, 64))
        for path, update in hub._residents.loaded("a")[0].updates.items():
            base.get_submodule(path).weight += 0.3 * update.B @ update.A
        expected = base(ids).logits
    torch.testing.assert_close(logits(hub, ["power1*0.5+a*0.3"], ids), expected, atol=1e-4, rtol=0)
    hub.compose("mix", {"power1": 0.5, "a": 0.3}, folder=tmp_path / "mix")
    torch.testing.assert_close(logits(hub, ["mix"], ids), expected, atol=1e-4, rtol=0)
    hub.compose("low", {"power1": 0.5, "a": 0.3}, "svd", rank=64, folder=tmp_path / "low")
    torch.testing.assert_close(logits(hub, ["low"], ids), expected, atol=1e-3, rtol=0)
    hub.export("mix", tmp_path / "lora", "lora", rank=64)
    torch.testing.assert_close(peft_logits(bases(), tmp_path / "lora", ids), expected, atol=1e-3, rtol=0)


def test_it_is_exported_whole_and_kept_as_it_is_in_a_sum_of_its_own(hub, ids, tmp_path):
    expected = logits(hub, ["power1"], ids)
    hub.export("power1", tmp_path / "model", dtype="float32")
    with torch.inference_mode():
        found = Auto.from_pretrained(tmp_path / "model")(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    hub.compose("same", {"power1": 1.0}, folder=tmp_path / "same")
    torch.testing.assert_close(logits(hub, ["same"], ids), expected, atol=1e-4, rtol=0)


def test_a_class_that_amounts_to_none_is_refused_by_name(hub, tmp_path):
    for call in (
        lambda: hub.load_adapter("power2*0.5"),
        lambda: hub.compose("mix", {"power2": 0.5, "a": 0.5}, folder=tmp_path / "mix"),
        lambda: hub.export("power2", tmp_path / "out"),
        lambda: hub.export("power2", tmp_path / "out", "lora", rank=4),
    ):
        with pytest.raises(UnsupportedFeature, match=r"q_proj: Turned cannot be folded into a weight"):
            call()
    assert not [path for path in tmp_path.iterdir() if "out" in path.name or "mix" in path.name], "nothing is left"
