"""The plugins in a real browser, and that the one shown is the one that is there."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from adapter_hub.plugin_manager import KINDS, ROUTES
from demo.plugins_tab import EXAMPLE, SHOWN

from .browser import PATIENCE

IA3 = Path(__file__).parents[2] / "plugins" / "adapter-hub-ia3" / "adapter_hub_ia3.py"


def test_the_tab_lists_what_each_plugin_brought_and_shows_the_shortest(sessions, served):
    session = sessions()
    session.tab("Plugins")
    page = session.page
    kinds = page.locator(".hub-kinds details")
    expect(kinds.first.locator("tbody tr")).to_have_count(len(served.hub.plugins.variants), timeout=PATIENCE)
    expect(kinds.nth(0)).to_contain_text(served.hub.plugins.variants[0].name)
    expect(page.locator("#hub-example-plugin")).to_contain_text("class Ia3", timeout=PATIENCE)


def test_the_plugin_that_is_shown_is_the_one_that_can_be_installed():
    assert EXAMPLE.read_bytes() == IA3.read_bytes()


def test_everything_that_a_plugin_may_bring_has_its_list():
    assert set(SHOWN) == {*KINDS, ROUTES}
