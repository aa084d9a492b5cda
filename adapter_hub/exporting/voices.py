"""The tokenizer and chat template that go with what is written."""

from __future__ import annotations

from pathlib import Path

from ..engine import Voice

CHAT_TEMPLATE = "chat_template.jinja"


def write_voice(folder: Path, voice: Voice) -> None:
    """Write a voice's tokenizer, and its chat template where it has one, as transformers reads them."""
    voice.tokenizer.save_pretrained(folder)
    if voice.chat_template is not None:
        # Beside a tokenizer this file is the template, whatever the tokenizer's own was.
        (folder / CHAT_TEMPLATE).write_text(voice.chat_template, encoding="utf-8")
