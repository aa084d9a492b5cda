"""The chat in a real browser: pick, ask, switch, stop, fail, and several users at once."""

from __future__ import annotations

from collections.abc import Iterator

from playwright.sync_api import expect

from adapter_hub import AdapterHub, Completion
from demo.catalog import BASE, choices

from ..until import SECONDS
from .browser import PATIENCE

SHORT, LONG = 8, 512
QUESTION = "What is the capital of France?"
HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><b>${1+1} {{value}}</b>"


class Fake:
    """Stands for a generation that says this, and then fails or is complete."""

    def __init__(self, pieces: list[str], error: Exception | None = None) -> None:
        self.pieces, self.error = pieces, error

    def __iter__(self) -> Iterator[str]:
        yield from self.pieces
        if self.error is not None:
            raise self.error

    def cancel(self) -> None:
        pass

    def result(self) -> Completion:
        return Completion("".join(self.pieces), None, (1,), 1, "stop")


def _said(hub: AdapterHub, adapter: str | None, *conversation: str) -> str:
    """What the hub itself answers at the end of a conversation of user, assistant, user ... texts."""
    roles = ("user", "assistant")
    chat = [{"role": roles[k % 2], "content": text} for k, text in enumerate(conversation)]
    text: str = hub.generate(chat, adapter=adapter, max_new_tokens=SHORT).text
    return text.rstrip()


class TestChat:
    def test_it_shows_the_base_and_every_adapter_with_its_card(self, sessions, served):
        session = sessions()
        page = session.page
        assert page.title() == "adapter_hub"
        report = served.hub.report()
        header = page.locator(".hub-header")
        expect(header).to_contain_text(report.name)
        expect(header).to_contain_text(f"{report.bits_per_weight:.2f}")
        assert page.locator("#hub-picker input").count() == 1 + len(served.hub.adapters())
        for offered in choices(served.hub)[1:]:
            session.pick(offered.key)
            expect(page.locator(".hub-card")).to_contain_text(offered.description)
            expect(page.locator(".hub-bar.hub-adapter").first).to_contain_text("%")

    def test_an_example_prompt_is_a_click_away(self, sessions, served):
        session, offered = sessions(), choices(served.hub)[1]
        session.pick(offered.key)
        examples = session.page.locator("#hub-examples button")
        expect(examples).to_have_count(len(offered.prompts), timeout=PATIENCE)
        examples.first.click()
        expect(session.page.locator("#hub-box textarea")).to_have_value(offered.prompts[0], timeout=PATIENCE)
        session.tab("Compare")
        session.tab("Chat")
        expect(session.page.locator(f"#hub-picker input[value='{offered.key}']")).to_be_checked()
        expect(session.page.locator(".hub-card .hub-badge")).to_have_text(offered.key)

    def test_an_empty_message_asks_nothing_and_keeps_the_conversation(self, sessions):
        session = sessions()
        session.answer_at_most(SHORT)
        session.send(QUESTION)
        session.wait_for_answers(1)
        first = session.answer(0)
        ended = ("requestfinished", "requestfailed")  # the stream of the page's events closes with the last of them
        closed = []
        for event in ended:
            session.page.on(event, lambda request: closed.append(request.url) if "queue/data" in request.url else None)
        session.send("  ")
        for _ in range(PATIENCE // 50):
            if closed:
                break
            session.page.wait_for_timeout(50)
        session.send(QUESTION)
        session.wait_for_answers(2)
        assert session.answer(0) == first
        expect(session.page.get_by_role("button", name="New chat")).to_be_visible()

    def test_switching_keeps_the_conversation(self, sessions, served):
        session, (name, _) = sessions(), served.adapters
        prompt = choices(served.hub)[1].prompts[0]
        session.answer_at_most(SHORT)
        session.pick(name)
        session.send(prompt)
        session.wait_for_answers(1)
        first = session.answer(0)
        assert first == _said(served.hub, name, prompt)
        expect(session.page.locator(".hub-cost")).to_contain_text(f"{name}: ")

        session.pick(BASE, "base")
        session.send(QUESTION)
        session.wait_for_answers(2)
        assert session.answer(1) == _said(served.hub, None, prompt, first, QUESTION)
        expect(session.page.locator(".hub-cost").nth(1)).to_contain_text("base: nothing to swap")
        expect(session.page.locator(".hub-answer .hub-badge")).to_have_text([name, "base"])
        assert served.hub.active_adapter is None

        session.page.get_by_role("button", name="New chat").click()
        expect(session.page.locator(".hub-empty")).to_be_visible(timeout=PATIENCE)

    def test_stop_ends_an_answer(self, sessions):
        session = sessions()
        session.answer_at_most(LONG)
        session.send("Write a very long story about a fox, with many chapters.")
        expect(session.page.locator(".hub-text")).to_contain_text(" ", timeout=PATIENCE)
        session.page.get_by_role("button", name="Stop").click()
        session.wait_for_answers(1)
        expect(session.page.locator(".hub-cost")).to_contain_text("stopped")

    def test_leaving_ends_an_answer(self, sessions, served, monkeypatch):
        submit, running = served.hub.submit, []

        def kept(*given: object, **named: object) -> object:
            running.append(submit(*given, **{**named, "max_new_tokens": 1500, "ignore_eos": True}))
            return running[-1]

        monkeypatch.setattr(served.hub, "submit", kept)
        session = sessions()
        session.send(QUESTION)
        expect(session.page.locator(".hub-text")).to_contain_text(" ", timeout=PATIENCE)
        session.page.close()
        assert running[0].result(SECONDS).finish_reason == "cancelled"

    def test_two_sessions_at_once_each_have_their_own_adapter(self, sessions, served):
        pairs = [(sessions(), name) for name in served.adapters]
        for session, name in pairs:
            session.answer_at_most(SHORT)
            session.pick(name)
        for session, _ in pairs:
            session.send(QUESTION)
        for session, name in pairs:
            session.wait_for_answers(1)
            assert session.answer(0) == _said(served.hub, name, QUESTION)
            expect(session.page.locator(".hub-answer .hub-badge")).to_have_text(name)

    def test_an_error_is_a_sentence_and_the_page_goes_on(self, sessions):
        session = sessions()
        session.answer_at_most(SHORT)
        session.send("word " * 9000)
        expect(session.page.locator(".hub-answer .hub-notice")).to_contain_text("positions", timeout=PATIENCE)
        session.wait_for_answers(0)
        session.send(QUESTION)
        session.wait_for_answers(1)

    def test_a_failure_nobody_foresaw_is_a_sentence_too(self, sessions, served, monkeypatch):
        broken = Fake(["Half an "], RuntimeError("a wire came loose"))
        monkeypatch.setattr(served.hub, "submit", lambda *_, **__: broken)
        session = sessions()
        session.send(QUESTION)
        expect(session.page.locator(".hub-answer .hub-notice")).to_contain_text("RuntimeError", timeout=PATIENCE)
        session.wait_for_answers(0)
        expect(session.page.locator("#hub-box textarea")).to_have_value(QUESTION)

    def test_what_user_and_model_write_is_data(self, sessions, served, monkeypatch):
        monkeypatch.setattr(served.hub, "submit", lambda *_, **__: Fake([HOSTILE]))
        session = sessions()
        session.send(HOSTILE)
        session.wait_for_answers(1)
        assert session.page.locator(".hub-prompt").text_content() == HOSTILE
        assert session.answer(0) == HOSTILE
        assert session.page.locator("#hub-log img").count() == 0
        assert session.page.title() == "adapter_hub"

    def test_each_answer_tells_where_its_adapter_lay_and_which_weights_gave_it(self, sessions, served):
        session, name = sessions(), "units"
        served.hub.unload(name)
        session.answer_at_most(SHORT)
        session.pick(name)
        for said, merged in (
            ("tier hit: from disk", False),
            ("tier hit: on the device", False),
            ("path: merged weights", True),
        ):
            if merged:
                served.hub.merge(name)
            count = session.page.locator(".hub-cost").count()
            session.send(QUESTION)
            session.wait_for_answers(count + 1)
            cost = session.page.locator(".hub-cost").nth(count)
            expect(cost).to_contain_text(said)
            expect(cost).to_contain_text("path: merged weights" if merged else "path: factors")
            expect(cost).to_contain_text("first token after")
        served.hub.unload(name)

    def test_the_last_question_goes_to_the_comparison(self, sessions):
        session = sessions()
        session.answer_at_most(SHORT)
        session.send(QUESTION)
        session.wait_for_answers(1)
        session.page.locator("#hub-to-compare").click()
        expect(session.page.locator("#hub-compare-prompt textarea")).to_have_value(QUESTION, timeout=PATIENCE)
