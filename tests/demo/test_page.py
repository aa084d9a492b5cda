"""The demo's page in a real browser: pick, ask, switch, stop, compare, fail, and several users at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import gradio as gr
import pytest
from playwright.sync_api import Browser, expect

from adapter_hub import AdapterHub, Completion
from adapter_hub.errors import SettingError
from demo import catalog, markup
from demo.app import build_page, serve
from demo.asking import Comparison
from demo.catalog import BASE, DEMO_ADAPTERS, choices, register_demo_adapters
from demo.conversation import Turn, last_question, messages
from demo.difference import word_differences

from .browser import PATIENCE, Session, chromium, executable, open_session, watch_sockets, write_adapter

SHORT, LONG = 8, 512
QUESTION = "What is the capital of France?"
HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><b>${1+1} {{value}}</b>"

# Gradio sums up its events with pandas after each one, in two ways that pandas is giving up.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting':DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated:DeprecationWarning"),
]
in_browser = pytest.mark.skipif(
    executable() is None, reason="no chromium or google-chrome on PATH to open the page with"
)


@dataclass(frozen=True)
class Served:
    """The page's hub and address, the two adapters on it, and hosts that this process called."""

    hub: AdapterHub
    address: str
    adapters: tuple[str, str]
    strangers: list[object]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained adapters or, where they have not been made yet, two stand-ins."""
    if len(list(DEMO_ADAPTERS.glob("*/card.json"))) >= 2:
        return DEMO_ADAPTERS
    root = tmp_path_factory.mktemp("adapters")
    write_adapter(root / "first", seed=1, strength=0.6, prompts=("Question: How are you?",))
    write_adapter(root / "second", seed=2, strength=0.6, prompts=("Question: Who are you?",))
    return root


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    with AdapterHub.from_pretrained() as hub, pytest.MonkeyPatch.context() as patch:
        assert register_demo_adapters(hub, folder) == []
        strangers = watch_sockets(patch)
        page, address = _page(hub)
        first, second = (info.name for info in hub.adapters()[:2])
        yield Served(hub, address, (first, second), strangers)
        page.close(verbose=False)


def _page(hub: AdapterHub, port: int = 0) -> tuple[gr.Blocks, str]:
    """A page and its address. Gradio makes an event loop for each of its locks, and leaves it open, unless one runs."""

    async def build_and_serve() -> tuple[gr.Blocks, str]:
        page = build_page(hub)
        return page, serve(page, host="127.0.0.1", port=port, wait=False)

    with ThreadPoolExecutor(1) as thread:  # this thread may run Playwright's loop
        return thread.submit(asyncio.run, build_and_serve()).result()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def sessions(served: Served, browser: Browser) -> Iterator[Callable[[], Session]]:
    """Opens sessions; at the end none may have called another host or broken in its scripts."""
    opened: list[Session] = []

    def open_one() -> Session:
        session = open_session(browser, served.address)
        opened.append(session)
        expect(session.page.locator("#hub-box textarea")).to_be_visible(timeout=PATIENCE)
        return session

    yield open_one
    for session in opened:
        session.context.close()
        assert session.strangers == []
        assert session.errors == []
    assert served.strangers == []


def _said(hub: AdapterHub, adapter: str | None, *conversation: str) -> str:
    """What the hub itself answers at the end of a conversation of user, assistant, user ... texts."""
    roles = ("user", "assistant")
    chat = [{"role": roles[k % 2], "content": text} for k, text in enumerate(conversation)]
    text: str = hub.generate(chat, adapter=adapter, max_new_tokens=SHORT).text
    return text.rstrip()


@in_browser
class TestPage:
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

    def test_the_panel_shows_what_changed(self, sessions, served):
        session, (name, _) = sessions(), served.adapters
        prompt = choices(served.hub)[1].prompts[0]
        compare = session.page.get_by_role("button", name="Compare with the base")
        panel = session.page.locator("#hub-comparison")
        compare.click()
        expect(panel).to_contain_text("Ask something first", timeout=PATIENCE)
        session.answer_at_most(SHORT)
        session.send(prompt)
        session.wait_for_answers(1)
        compare.click()
        expect(panel).to_contain_text("Pick an adapter", timeout=PATIENCE)
        session.pick(name)
        compare.click()
        sides = panel.locator(".hub-side .hub-text")
        expect(sides).to_have_count(2, timeout=PATIENCE)
        # The same batch of two: in bfloat16 an answer may tip over when it is made alone.
        chat = [{"role": "user", "content": prompt}]
        both = served.hub.generate([chat, chat], adapters=[None, name], max_new_tokens=SHORT)
        assert [text.rstrip() for text in sides.all_text_contents()] == [done.text.rstrip() for done in both]
        assert panel.locator("mark").count() > 0

    def test_stop_ends_an_answer(self, sessions):
        session = sessions()
        session.answer_at_most(LONG)
        session.send("Write a very long story about a fox, with many chapters.")
        expect(session.page.locator(".hub-text")).to_contain_text(" ", timeout=PATIENCE)
        session.page.get_by_role("button", name="Stop").click()
        session.wait_for_answers(1)
        expect(session.page.locator(".hub-cost")).to_contain_text("stopped")

    def test_leaving_ends_an_answer(self, sessions, served, monkeypatch):
        closed = threading.Event()

        def endless(*_: object, **__: object) -> Iterator[str]:
            try:
                while True:
                    time.sleep(0.05)
                    yield "more "
            finally:
                closed.set()

        monkeypatch.setattr(served.hub, "stream", endless)
        session = sessions()
        session.send(QUESTION)
        expect(session.page.locator(".hub-text")).to_contain_text("more more", timeout=PATIENCE)
        session.page.close()
        assert closed.wait(20)

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
        def broken(*_: object, **__: object) -> Iterator[str]:
            yield "Half an "
            raise RuntimeError("a wire came loose")

        monkeypatch.setattr(served.hub, "stream", broken)
        session = sessions()
        session.send(QUESTION)
        expect(session.page.locator(".hub-answer .hub-notice")).to_contain_text("RuntimeError", timeout=PATIENCE)
        session.wait_for_answers(0)
        expect(session.page.locator("#hub-box textarea")).to_have_value(QUESTION)

    def test_what_user_and_model_write_is_data(self, sessions, served, monkeypatch):
        monkeypatch.setattr(served.hub, "stream", lambda *_, **__: (piece for piece in [HOSTILE]))
        session = sessions()
        session.send(HOSTILE)
        session.wait_for_answers(1)
        assert session.page.locator(".hub-prompt").text_content() == HOSTILE
        assert session.answer(0) == HOSTILE
        assert session.page.locator("#hub-log img").count() == 0
        assert session.page.title() == "adapter_hub"


def test_a_port_in_use_is_a_sentence(served):
    with pytest.raises(SettingError, match="cannot be served"):
        _page(served.hub, urlsplit(served.address).port or 0)


def test_adapters_that_do_not_fit_are_left_out_with_a_sentence(open_hub, tmp_path):
    write_adapter(tmp_path / "other", seed=1, strength=1.0)
    (notice,) = register_demo_adapters(open_hub(), tmp_path)
    assert notice.startswith("The demo adapter 'other' is left out: ")
    assert notice in markup.header(open_hub().report(), [notice]).replace("&#x27;", "'")


def test_a_folder_with_a_strange_card_is_offered_without_it(tmp_path):
    (tmp_path / "card.json").write_text('{"scores": 3}')
    assert catalog._read_card(tmp_path) is None


def test_only_answered_turns_are_said_again():
    turns = [Turn("a", None, "A"), Turn("b", "x", error="no"), Turn("c", "x", "C"), Turn("d", None, error="no")]
    assert [m["content"] for m in messages(turns, "e")] == ["a", "A", "c", "C", "e"]
    question = last_question(turns)
    assert question is not None
    assert [m["content"] for m in question] == ["a", "A", "c"]
    assert last_question([]) is None


def test_word_differences_keep_every_character():
    left, right = word_differences("SELECT a, b FROM t;", "SELECT b FROM  t")
    assert "".join(piece.text for piece in left) == "SELECT a, b FROM t;"
    assert "".join(piece.text for piece in right) == "SELECT b FROM  t"
    assert "".join(piece.text for piece in left if not piece.same).split() == ["a,", ";"]


def test_all_text_is_escaped():
    turn = Turn(HOSTILE, None, HOSTILE, error=HOSTILE)
    completion = Completion(HOSTILE, None, (1,), 1, "stop")
    compared = Comparison(completion, Completion("<i>", "x", (1,), 1, "stop"), 1.0)
    for html in (markup.log((turn,)), markup.comparison(compared, "<u>"), markup.notice(HOSTILE)):
        assert not any(tag in html for tag in ("<img", "<i>", "<u>", "<b>$"))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(14e-6, "14 µs"), (0.0412, "41 ms"), (1.94, "1.9 s"), (0.0009996, "1 ms")]
)
def test_durations_have_a_fitting_unit(seconds, shown):
    assert markup.duration(seconds) == shown
