"""The page for plugin authors, run block by block as it stands."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapter_hub import AdapterHub
from adapter_hub.errors import CorruptFile, PluginError, ShapeMismatch, UnconsumedTensors
from adapter_hub.hookspecs import Lowered, Summary, hookimpl
from adapter_hub.testing import assert_rows_as_alone, logits, random_ids, save_tiny_base

PAGE = Path(__file__).parents[1] / "docs" / "writing-a-plugin.md"
PLUGIN, DRAW, TRY, CUSTOM = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.fixture
def offgain(monkeypatch):
    module = types.ModuleType("offgain")
    exec(PLUGIN, module.__dict__)
    monkeypatch.setitem(sys.modules, "offgain", module)
    return module


@pytest.fixture
def draw():
    namespace: dict = {}
    exec(DRAW, namespace)
    return namespace["draw"]


@pytest.mark.usefixtures("offgain")
def test_the_page_runs(draw, tmp_path, capsys):
    exec(TRY, {"folder": tmp_path, "draw": draw})
    assert capsys.readouterr().out.splitlines()[-1] == "1024"
    assert 30 <= len(PLUGIN.splitlines()) <= 55


def test_the_variant_means_what_it_says(offgain, draw, tmp_path):
    with AdapterHub.from_pretrained(
        save_tiny_base(tmp_path / "base"), quantization=None, plugins=[("offgain", offgain)]
    ) as hub:
        tensors = load_file(draw(tmp_path / "one", 1) / "adapter_model.safetensors")
        hub.load_adapter(tmp_path / "one", "one")
        ids = random_ids(1)
        ours = logits(hub, ["one"], ids)
        hub.unload()
        for layer in range(2):
            path = f"model.layers.{layer}.self_attn.q_proj"
            module, prefix = hub.model.get_submodule(path), f"base_model.model.{path}"
            pair = tensors[f"{prefix}.up"] @ tensors["base_model.shared_down"] / 4
            dense = tensors[f"{prefix}.gain"].unsqueeze(1) * module.weight + pair
            module.weight = torch.nn.Parameter(dense)
            module.bias = torch.nn.Parameter(tensors[f"{prefix}.offset"])
        torch.testing.assert_close(ours, logits(hub, [None], ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (lambda t: t.pop("base_model.shared_down"), CorruptFile, "shared_down is missing"),
        (lambda t: t.update(extra=torch.ones(2)), UnconsumedTensors, "extra"),
        (lambda t: t.update({_key(t, "gain"): torch.ones(3)}), ShapeMismatch, "out_scale"),
        (lambda t: t.pop(_key(t, "offset")), PluginError, "'offgain' fails to lower .* KeyError"),
    ],
)
def test_bad_files_name_the_tensor_or_the_plugin(spoil, error, said, offgain, draw, tmp_path):
    with AdapterHub.from_pretrained(
        save_tiny_base(tmp_path / "base"), quantization=None, plugins=[("offgain", offgain)]
    ) as hub:
        weights = draw(tmp_path / "one", 1) / "adapter_model.safetensors"
        tensors = load_file(weights, backend="pread")
        spoil(tensors)
        save_file(tensors, weights)
        with pytest.raises(error, match=said):
            hub.load_adapter(tmp_path / "one", "one")
        assert hub.adapters() == []


def _key(tensors, end):
    return next(name for name in tensors if name.endswith(end))


def test_an_update_of_ones_own_class_mixes_rightly(draw, tmp_path):
    namespace: dict = {}
    exec(CUSTOM, namespace)

    class Gates:
        name = "gates"

        def matches(self, config):
            return config.get("peft_type") == "OFFGAIN"

        def describe(self, tensors, config):
            return Summary({}, "none")

        def lower(self, tensors, config, base):
            sites = {name.removesuffix(".gain") for name in tensors if name.endswith(".gain")}
            updates = {path: namespace["Gate"](tensors[f"{path}.gain"]) for path in sites}
            tensors.clear()
            return Lowered(updates)

    class Plugin:
        @hookimpl
        def adapter_hub_variants(self):
            return [Gates()]

    with AdapterHub.from_pretrained(
        save_tiny_base(tmp_path / "base"), quantization=None, plugins=[("gates", Plugin())]
    ) as hub:
        hub.load_adapter(draw(tmp_path / "one", 1), "one")
        ids = random_ids(1)
        assert not torch.equal(logits(hub, ["one"], ids), logits(hub, [None], ids))
        assert_rows_as_alone(hub, ["one", None, "one"])
