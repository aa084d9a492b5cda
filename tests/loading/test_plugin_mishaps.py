"""Plugins that break while an adapter comes in: the error names the plugin, and the hub stays as it was."""

from __future__ import annotations

import types

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from adapter_hub import hookimpl
from adapter_hub.errors import NotFinite, PluginError
from adapter_hub.hookspecs import AdapterFiles, Lowered, Summary
from adapter_hub.loading import AdapterLoader, inspect_folder
from adapter_hub.plugin_manager import load_plugins
from adapter_hub.updates import LinearUpdate

from ..models import save_adapter
from .stage import change_config


class Mine:
    """A source, a format and a variant in one, which fail in the method of a given name."""

    name = "mine"

    def __init__(self, fails: str, how: object = None) -> None:
        self.fails, self.how = fails, how

    def __getattribute__(self, asked):
        if asked == object.__getattribute__(self, "fails"):
            return types.MethodType(_fail, self)
        return object.__getattribute__(self, asked)

    def can_fetch(self, ref):
        return ref.startswith("mine:")

    def detect(self, folder):
        return (folder / "mine").exists()

    def files(self, folder):
        return (folder / "mine",)

    def read(self, folder, settings):
        return AdapterFiles({}, {"peft_type": "MINE"})

    def matches(self, config):
        return config.get("peft_type") == "MINE"

    def describe(self, tensors, config):
        return Summary({}, "none")

    def lower(self, tensors, config, base):
        tensors.clear()
        return Lowered({})

    def fetch(self, ref, revision, settings):
        raise NotImplementedError


def _fail(mine, *_):
    if isinstance(mine.how, Exception):
        raise mine.how
    return mine.how


_fail.__name__ = "asked"


class Crooked(LinearUpdate):
    """An update of a plugin's own, whose check breaks."""

    def check(self, site):
        raise IndexError("boom")


class Plugin:
    """Brings one object in every way there is."""

    def __init__(self, mine):
        self.mine = mine

    @hookimpl
    def adapter_hub_sources(self):
        return [self.mine]

    @hookimpl
    def adapter_hub_formats(self):
        return [self.mine]

    @hookimpl
    def adapter_hub_variants(self):
        return [self.mine]


@pytest.fixture
def adapter(bases, tmp_path):
    """An adapter of a type that only the plugin knows, in a folder that both formats know."""
    folder = save_adapter(bases("llama"), tmp_path / "a", LoraConfig(r=4, target_modules=["q_proj"]))
    change_config(folder, peft_type="MINE")
    return folder


BOOM = RuntimeError("boom")
SITE = "model.layers.0.self_attn.q_proj"
MISHAPS = {
    "can_fetch": ("can_fetch", BOOM, "mine:/x"),
    "fetch": ("fetch", BOOM, "mine:/x"),
    "detect": ("detect", BOOM, "other"),
    "files": ("files", BOOM, "other"),
    "read": ("read", BOOM, "other"),
    "matches": ("matches", BOOM, "a"),
    "lower": ("lower", BOOM, "a"),
    "lower gives nothing": ("lower", None, "a"),
    "lower gives no updates": ("lower", Lowered({SITE: torch.ones(3)}), "a"),
    "lower gives a broken update": ("lower", Lowered({SITE: Crooked()}), "a"),
}


@pytest.mark.parametrize("case", MISHAPS)
def test_a_plugin_that_breaks_is_named_and_the_hub_is_as_before(case, adapter, bases, open_hub, tmp_path, ids):
    fails, how, ref = MISHAPS[case]
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").touch()
    good = save_adapter(bases("llama"), tmp_path / "good", LoraConfig(r=4, target_modules=["q_proj"]), seed=2)
    hub = open_hub(plugins=[("the-plugin", Plugin(Mine(fails, how)))])
    hub.load_adapter(good)
    hub.set_adapter("good")
    before = hub.model(ids).logits, {**hub.memory().as_dict(), "process": 0}
    for attempt in (hub.register, lambda name, ref: hub.load_adapter(ref, name)):
        with pytest.raises(PluginError, match="'the-plugin'") as caught:
            attempt("bad", {"a": adapter, "other": other}.get(ref, ref))
        assert how is not BOOM or "RuntimeError: boom" in str(caught.value)
    assert [info.name for info in hub.adapters()] == ["good"]
    assert torch.equal(hub.model(ids).logits, before[0])
    assert {**hub.memory().as_dict(), "process": 0} == before[1]


def test_a_plugin_that_breaks_in_describe_is_named(adapter, open_hub):
    mine = Mine("describe", BOOM)
    loader = AdapterLoader(load_plugins([("the-plugin", Plugin(mine))]), open_hub().settings)
    with pytest.raises(PluginError, match=r"'the-plugin' fails in mine.*RuntimeError: boom"):
        inspect_folder(adapter, loader)
    loader.close()


def test_values_that_nobody_can_reckon_with_are_not_the_plugins_fault(adapter, open_hub):
    tensors = load_file(adapter / "adapter_model.safetensors")
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, adapter / "adapter_model.safetensors")
    hub = open_hub(plugins=[("the-plugin", Plugin(Mine("lower", ValueError("cannot convert float NaN"))))])
    with pytest.raises(NotFinite, match=r"lora_A\.weight"):
        hub.register("a", adapter)
