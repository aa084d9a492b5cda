"""From text or chat messages to token ids, each row with the tokenizer and template of its own adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from transformers import AutoTokenizer

from ..base import BaseModel
from ..errors import CorruptFile, RequestError
from ..updates import EmbeddingUpdate, SiteUpdate

Message = Mapping[str, str]
Prompt = str | Sequence[Message] | Sequence[int]


@dataclass(frozen=True)
class Voice:
    """A tokenizer and a chat template: the base's, or those that an adapter brings.

    Args:
        tokenizer: a transformers tokenizer.
        chat_template: Jinja source in place of the tokenizer's own.
        stop_ids: tokens that end a text.
        vocabulary: token ids from 0 up to this are known to the rows that speak with this voice.
    """

    tokenizer: Any
    chat_template: str | None
    stop_ids: frozenset[int]
    vocabulary: int

    @property
    def has_chat_template(self) -> bool:
        """Whether chat messages can be encoded."""
        return bool(self.chat_template or self.tokenizer.chat_template)

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a text as it is, or of chat messages with the opening of the assistant's turn; ids stay ids.

        Raises:
            RequestError: the prompt is empty or malformed, or there is no chat template.
        """
        if isinstance(prompt, str):
            _hold_unicode(prompt)
            ids = self._encode_text(prompt)
        elif prompt and all(isinstance(token, int) for token in prompt):
            return self._hold_ids(prompt)
        else:
            ids = self._encode_chat(prompt)
        if not ids:
            raise RequestError("a prompt has no tokens.", hint="Write at least one character.")
        if max(ids) >= self.vocabulary:
            raise RequestError(
                f"the prompt holds token {max(ids)}, the model knows {self.vocabulary}.",
                hint="The adapter's tokenizer adds tokens that its weights do not bring.",
            )
        return ids

    def _hold_ids(self, ids: Sequence[Any]) -> list[int]:
        for token in ids:
            if not 0 <= token < self.vocabulary:
                limit = f"Give ids from 0 to {self.vocabulary - 1}."
                raise RequestError(f"the prompt holds token {token}.", hint=limit)
        return [int(token) for token in ids]

    def _encode_text(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def _encode_chat(self, messages: Sequence[Any]) -> list[int]:
        if not messages or not all(isinstance(m, Mapping) and {"role", "content"} <= m.keys() for m in messages):
            raise RequestError(
                "chat messages must be mappings with 'role' and 'content'.",
                hint='Write [{"role": "user", "content": "..."}].',
            )
        for message in messages:
            _hold_unicode(message["content"])
        try:
            encoded = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=self.chat_template,
                add_generation_prompt=True,
                return_dict=True,
            )
        except (ValueError, jinja2.TemplateError) as error:
            raise RequestError(
                f"the chat template refuses these messages: {error}.", hint="Give the prompt as plain text."
            ) from error
        return list(encoded["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, without special tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text


def _hold_unicode(text: object) -> None:
    try:
        str(text).encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"a prompt is no valid Unicode: {error.reason}.", hint="Send it as UTF-8.") from error


def vocabulary_of(base: BaseModel, updates: Mapping[str, SiteUpdate]) -> int:
    """How many token ids the model knows under these updates."""
    embedding = base.model.get_input_embeddings()
    size: int = embedding.num_embeddings
    for path, update in updates.items():
        if isinstance(update, EmbeddingUpdate) and base.module(path) is embedding:
            table = 0 if update.table is None else update.table.shape[0]
            listed = 0 if update.row_ids is None else int(update.row_ids.max()) + 1
            size = max(size, table, listed)
    return size


def base_voice(tokenizer: Any, generation_config: Any, vocabulary: int) -> Voice:
    """The voice of the base itself."""
    stops = {tokenizer.eos_token_id} - {None}
    configured = getattr(generation_config, "eos_token_id", None)
    if configured is not None:
        stops |= set(configured) if isinstance(configured, list) else {configured}
    return Voice(tokenizer, None, frozenset(stops), vocabulary)


def adapter_voice(base: Voice, tokenizer: Path | None, chat_template: str | None, vocabulary: int) -> Voice:
    """The voice of an adapter: what it brings, and the base's for the rest.

    Raises:
        CorruptFile: the adapter's tokenizer cannot be read.
    """
    own, stops = base.tokenizer, base.stop_ids
    if tokenizer is not None:
        try:
            # Left open, trust_remote_code asks whoever sits at the terminal whether to run the file's code.
            own = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the Rust tokenizers raise nothing more precise
            raise CorruptFile(
                f"the tokenizer in {tokenizer} cannot be read: {type(error).__name__}: {error}.",
                hint="Fetch or save the adapter again.",
            ) from error
        if own.eos_token_id is not None and own.eos_token_id != base.tokenizer.eos_token_id:
            stops = frozenset({own.eos_token_id})
    return Voice(own, chat_template, stops, vocabulary)
