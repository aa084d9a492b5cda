"""Strict and atomic wiring: a broken plugin stops the start with its name, and leaves nothing behind."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint

import pytest

import adapter_hub.plugin_manager as wiring
from adapter_hub import hookimpl
from adapter_hub.errors import PluginError
from adapter_hub.plugin_manager import load_plugins


class Thing:
    def __init__(self, name):
        self.name = name


def _plugin(**hooks):
    module = types.ModuleType("plugin_under_test")
    for name, offered in hooks.items():

        def hook(offered=offered):
            if isinstance(offered, Exception):
                raise offered
            return offered

        # pluggy reads the signature: defaults are not arguments of a hook.
        hook = types.FunctionType(hook.__code__, hook.__globals__, name, (offered,), hook.__closure__)
        setattr(module, name, hookimpl(hook))
    return module


def test_the_built_in_plugins_come_in_through_the_entry_points():
    plugins = load_plugins()
    assert {"lora", "peft-folder", "local-folder", "hub-repo"} <= {info.name for info in plugins.infos}
    assert {info.distribution for info in plugins.infos if info.name == "lora"} == {"adapter-hub"}
    lora = next(variant for variant in plugins.variants if variant.name == "lora")
    assert plugins.owner(lora) == "lora"


def test_a_plugin_given_by_the_caller_stands_beside_them():
    plugins = load_plugins([("mine", _plugin(adapter_hub_variants=[Thing("mine-variant")]))])
    info = next(info for info in plugins.infos if info.name == "mine")
    assert (info.distribution, info.variants) == ("given by the caller", ("mine-variant",))


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (_plugin(adapter_hub_varaints=[]), r"'mine' implements a hook that does not exist.*adapter_hub_varaints"),
        (
            _plugin(adapter_hub_variants=RuntimeError("boom")),
            r"'mine' fails in adapter_hub_variants: RuntimeError: boom",
        ),
        (_plugin(adapter_hub_variants=[Thing("lora")]), r"'lora' and 'mine' both bring 'lora' among the variants"),
        (_plugin(adapter_hub_formats=[Thing("peft")]), r"'peft-folder' and 'mine' both bring 'peft' among the formats"),
        (_plugin(adapter_hub_sources=None), r"'mine' gives no list in adapter_hub_sources"),
        (_plugin(adapter_hub_variants=[object()]), r"'mine' .*adapter_hub_variants.*no name"),
    ],
)
def test_a_broken_plugin_stops_the_start_by_name(plugin, said):
    with pytest.raises(PluginError, match=said):
        load_plugins([("mine", plugin)])
    assert "mine" not in {info.name for info in load_plugins().infos}


def test_two_plugins_of_one_name_are_refused():
    with pytest.raises(PluginError, match="'lora' cannot be registered"):
        load_plugins([("lora", _plugin())])


def test_a_hook_with_other_arguments_is_refused():
    module = types.ModuleType("plugin_under_test")

    @hookimpl
    def adapter_hub_variants(base):  # noqa: ARG001
        return []

    module.adapter_hub_variants = adapter_hub_variants
    with pytest.raises(PluginError, match=r"'mine' cannot be registered.*base"):
        load_plugins([("mine", module)])


def test_a_plugin_that_fails_to_import_is_named(monkeypatch, tmp_path):
    (tmp_path / "broken_plugin.py").write_text("import nothing_of_this_name")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("broken", "broken_plugin", "adapter_hub")
    monkeypatch.setattr(wiring, "entry_points", lambda **_: [entry])
    with pytest.raises(PluginError, match=r"'broken' \(broken_plugin\) cannot be imported.*nothing_of_this_name"):
        load_plugins()
    assert "broken_plugin" not in sys.modules
