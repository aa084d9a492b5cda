"""A headless Chromium for tests of the page, and the stand-in adapters they pick from."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright
from safetensors.torch import save_file

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOCAL_SCHEMES = ("data", "blob", "about")
PATIENCE = 60_000  # milliseconds: the machine may be busy
HIDDEN, KEYS, LAYERS = 576, 192, range(4, 12)


def executable() -> str | None:
    """Path of a Chromium on this machine, or None."""
    return next(filter(None, map(shutil.which, EXECUTABLES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running headless Chromium."""
    path = executable()
    assert path is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Session:
    """One user's window on the page, the other hosts that it called, and the errors in its scripts."""

    page: Page
    context: BrowserContext
    strangers: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def note(self, request: Request) -> None:
        """Remember a request that leaves this machine."""
        parts = urlsplit(request.url)
        if parts.scheme not in LOCAL_SCHEMES and parts.hostname not in LOOPBACK:
            self.strangers.append(request.url)

    def pick(self, key: str, shown: str | None = None) -> None:
        """Pick from the list, and wait for the card."""
        self.page.locator(f"#hub-picker input[value='{key}']").check()
        expect(self.page.locator(".hub-card .hub-badge")).to_have_text(shown or key, timeout=PATIENCE)

    def tab(self, name: str) -> None:
        """Turn to another tab."""
        self.page.get_by_role("tab", name=name, exact=True).click()
        expect(self.page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")

    def answer_at_most(self, tokens: int) -> None:
        """Set the length of answers. The settings stay open: folded away at once, they may not have told the page."""
        settings = self.page.get_by_role("button", name="Settings")
        settings.click()
        box = self.page.get_by_label("number input for Longest answer, in tokens")
        # A page that is still loading puts its sliders back to where they begin; a person is not that fast.
        for _ in range(20):
            box.fill(str(tokens))
            box.press("Tab")
            self.page.wait_for_timeout(500)
            if box.input_value() == str(tokens):
                return
        raise AssertionError("the length of answers cannot be set")

    def send(self, text: str) -> None:
        """Ask, without waiting for the answer."""
        self.page.locator("#hub-box textarea").fill(text)
        self.page.get_by_role("button", name="Ask").click()

    def wait_for_answers(self, count: int) -> None:
        """Wait until so many answers are complete and the next can be asked for."""
        expect(self.page.locator(".hub-cost")).to_have_count(count, timeout=PATIENCE)
        expect(self.page.get_by_role("button", name="Ask")).to_be_visible(timeout=PATIENCE)

    def drop(self, selector: str, *paths: Path) -> None:
        """Drop files and folders of this machine on a part of the page, as from a file manager."""
        box = self.page.locator(selector)
        box.scroll_into_view_if_needed()
        at = box.bounding_box()
        assert at is not None
        place = {"x": at["x"] + at["width"] / 2, "y": at["y"] + at["height"] / 2}
        data = {"items": [], "files": [*map(str, paths)], "dragOperationsMask": 1}
        devtools = self.context.new_cdp_session(self.page)
        for kind in ("dragEnter", "dragOver", "drop"):
            devtools.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})
        devtools.detach()

    def answer(self, index: int) -> str:
        """The text of one answer, white space and all."""
        text: str = self.page.locator(".hub-answer .hub-text").nth(index).evaluate("element => element.textContent")
        return text


def open_session(browser: Browser, address: str, *, width: int = 1280, height: int = 900) -> Session:
    """A session of its own, with cookies and storage that no other one sees."""
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(PATIENCE)
    session = Session(context.new_page(), context)
    session.page.on("request", session.note)
    session.page.on("pageerror", lambda error: session.errors.append(str(error)))
    session.page.goto(address)
    return session


def watch_sockets(patch: pytest.MonkeyPatch) -> list[object]:
    """Collects the addresses outside of this machine that this process connects to."""
    strangers: list[object] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            strangers.append(address)
        connect(self, address)  # type: ignore[arg-type]

    patch.setattr(socket.socket, "connect", watched)
    return strangers


def write_adapter(folder: Path, *, seed: int, strength: float, prompts: tuple[str, ...] = ()) -> Path:
    """A LoRA for the default base with random weights, strong enough to change its words, and a card."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in LAYERS:
        for name, width in (("q_proj", HIDDEN), ("v_proj", KEYS)):
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(4, HIDDEN, generator=generator) / HIDDEN**0.5
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(width, 4, generator=generator) * strength
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "v_proj"],
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    if prompts:
        (folder / "card.json").write_text(json.dumps(_card(folder.name, prompts)))
    return folder


def _card(name: str, prompts: tuple[str, ...]) -> dict[str, object]:
    samples = [{"prompt": p, "base_answer": "", "adapter_answer": "", "expected": ""} for p in prompts]
    scores = {
        "num_unseen": 200,
        "seed": 1,
        "base_score": 0.015,
        "adapter_score": 0.93,
        "further": {},
        "samples": samples,
    }
    return {
        "name": name,
        "task": name,
        "title": f"Stand-in {name}",
        "description": "Random weights in place of a trained adapter: it only makes the words differ.",
        "held_out": "",
        "base": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "method": "LoRA",
        "settings": {"r": 4},
        "seed": 1,
        "num_steps": 600,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "training_seconds": 1500,
        "final_loss": 0.1,
        "scores": scores,
    }
