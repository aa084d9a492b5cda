"""The blend in a real browser: two adapters, a slider, an answer that changes with it."""

from __future__ import annotations

from playwright.sync_api import expect

from .browser import PATIENCE

PROMPT = "What is the capital of France?"


def test_the_slider_changes_who_answers(sessions, served):
    session, (first, second) = sessions(), served.adapters
    page = session.page
    session.tab("Blend")
    shown, badge = page.locator("#hub-blend code"), page.locator("#hub-blended .hub-answer .hub-badge")
    half = f"{first}*0.5+{second}*0.5"
    expect(shown).to_have_text(half, timeout=PATIENCE)
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.locator("#hub-blended .hub-notice")).to_contain_text("Write a prompt first", timeout=PATIENCE)
    page.locator("#hub-blend-prompt textarea").fill(PROMPT)
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.locator("#hub-blended .hub-cost")).to_be_visible(timeout=PATIENCE)
    expect(badge).to_have_text(half)
    said = served.hub.generate([{"role": "user", "content": PROMPT}], adapter=half, max_new_tokens=96).text
    assert page.locator("#hub-blended .hub-answer .hub-text").text_content().strip() == said.strip()
    served.hub.unload(half)

    slider = page.locator("#hub-blend input[type=range]")
    slider.focus()
    slider.press("End")
    expect(shown).to_have_text(second, timeout=PATIENCE)
    slider.dispatch_event("pointerup")
    expect(badge).to_have_text(second, timeout=PATIENCE)
    assert not [key for key in served.hub.memory().adapters if "*" in key], "no position of the slider is kept"


def test_five_steps_are_one_batch(sessions, served):
    session, (first, second) = sessions(), served.adapters
    page = session.page
    session.tab("Blend")
    page.locator("#hub-blend-prompt textarea").fill(PROMPT)
    page.get_by_role("button", name="Five steps in one batch").click()
    steps = page.locator("#hub-blended .hub-step")
    expect(steps).to_have_count(5, timeout=PATIENCE)
    expect(steps.locator(".hub-step-at").nth(1)).to_have_text(f"75% {first}, 25% {second}")
    expect(page.locator("#hub-blended .hub-notice")).to_have_count(0)
    assert not [key for key in served.hub.memory().adapters if "*" in key]
