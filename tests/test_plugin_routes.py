"""The hook for a server's routes: asked when a server starts, and then by the plugin's name."""

from __future__ import annotations

import pytest
from fastapi import APIRouter

from adapter_hub.errors import PluginError
from adapter_hub.hookspecs import hookimpl
from adapter_hub.plugin_manager import load_plugins


def plugin(give):
    @hookimpl
    def adapter_hub_server_routes():
        return give()

    return type("Mine", (), {"adapter_hub_server_routes": staticmethod(adapter_hub_server_routes)})


def test_routes_are_asked_for_when_they_are_wanted():
    asked = []
    router = APIRouter()
    plugins = load_plugins([("mine", plugin(lambda: asked.append(1) or [router]))])
    assert asked == []
    assert router in plugins.server_routes()
    assert asked == [1]
    assert next(info for info in plugins.infos if info.name == "mine").server_routes == ("mine",)


@pytest.mark.parametrize("give", [lambda: 1 / 0, lambda: None, lambda: "routes"])
def test_a_plugin_that_fails_to_give_routes_is_named(give):
    plugins = load_plugins([("mine", plugin(give))])
    with pytest.raises(PluginError, match=r"'mine'.*adapter_hub_server_routes"):
        plugins.server_routes()
