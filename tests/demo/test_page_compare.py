"""The comparison in a real browser: one prompt, the base and two adapters, one batch."""

from __future__ import annotations

from playwright.sync_api import expect

from demo.catalog import choices

from .browser import PATIENCE


def test_answers_stand_side_by_side_with_their_differences(sessions, served):
    session = sessions()
    page, panel = session.page, session.page.locator("#hub-comparison")
    session.tab("Compare")
    run = page.get_by_role("button", name="Compare in one batch")
    run.click()
    expect(panel).to_contain_text("Write a prompt first", timeout=PATIENCE)
    page.locator("#hub-compare .hub-examples button").first.click()
    prompt = choices(served.hub)[1].prompts[0]
    expect(page.locator("#hub-compare-prompt textarea")).to_have_value(prompt, timeout=PATIENCE)
    run.click()
    sides = panel.locator(".hub-side")
    expect(sides).to_have_count(3, timeout=PATIENCE)
    expect(sides.locator(".hub-badge")).to_have_text(["base", *served.adapters])
    answers = [text.strip() for text in sides.locator(".hub-text").all_text_contents()]
    # An adapter's own task: its answer in a mixed batch is the one that its card shows, and the base's is another.
    alone = served.hub.generate([{"role": "user", "content": prompt}], adapter=served.adapters[0], max_new_tokens=64)
    assert answers[1] == alone.text.strip()
    assert answers[0] != answers[1]
    assert sides.nth(1).locator("mark").count() > 0
    expect(panel).to_contain_text("One greedy batch of 3 rows")


def test_what_cannot_be_compared_is_a_sentence_and_the_page_lives_on(sessions, served):
    session = sessions()
    page, panel = session.page, session.page.locator("#hub-comparison")
    session.tab("Compare")
    page.locator("#hub-compare-prompt textarea").fill("word " * 9000)
    page.get_by_role("button", name="Compare in one batch").click()
    expect(panel.locator(".hub-notice")).to_contain_text("positions", timeout=PATIENCE)
    page.locator("#hub-compare-prompt textarea").fill("Hello")
    for name in served.adapters:
        page.locator(f"#hub-ticked input[name='{name}']").uncheck()
    page.get_by_role("button", name="Compare in one batch").click()
    expect(panel.locator(".hub-notice")).to_contain_text("Tick an adapter", timeout=PATIENCE)
