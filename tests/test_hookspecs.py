"""Each hook is documented, says who may implement it and when it is called, and is used by a real plugin."""

from __future__ import annotations

import inspect

import pytest

from adapter_hub.hookspecs import HookSpecs
from adapter_hub.plugin_manager import load_plugins

HOOKS = [name for name in vars(HookSpecs) if name.startswith("adapter_hub_")]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_documented(hook):
    text = inspect.getdoc(getattr(HookSpecs, hook))
    assert "may implement it" in text
    assert "Called once" in text


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_used_by_a_plugin_that_comes_with_the_hub(hook):
    kind = hook.removeprefix("adapter_hub_")
    assert any(getattr(info, kind) for info in load_plugins().infos if info.distribution == "adapter-hub")
