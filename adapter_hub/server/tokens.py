"""Single tokens as text and bytes, for log probabilities."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from ..engine import TokenLogprob
from .responses import Alternative, ChatLogprobs, ChatToken, TextLogprobs

LEAST = -9999.0  # stands for the logarithm of nothing, which JSON cannot write
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_is_byte_level: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def token_bytes(tokenizer: Any, token: int) -> bytes | None:
    """The bytes that a token stands for in a text; None for one that the tokenizer does not know."""
    written = tokenizer.convert_ids_to_tokens(token)
    if written is None:
        return None
    if token in tokenizer.added_tokens_decoder:
        return str(written).encode()
    if tokenizer not in _is_byte_level:
        decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
        _is_byte_level[tokenizer] = "ByteLevel" in repr(decoder)
    if _is_byte_level[tokenizer]:
        table = _byte_of_letter()
        return bytes(table[letter] for letter in written if letter in table)
    byte = _BYTE.fullmatch(written)
    return bytes([int(byte[1], 16)]) if byte else written.replace("\u2581", " ").encode()


def chat_logprobs(tokenizer: Any, tokens: Iterable[TokenLogprob]) -> ChatLogprobs:
    """Tokens as chats report them."""
    return ChatLogprobs(
        content=[
            ChatToken(
                **_said(tokenizer, token.token_id, token.logprob),
                top_logprobs=[Alternative(**_said(tokenizer, *pair)) for pair in token.alternatives],
            )
            for token in tokens
        ]
    )


def text_logprobs(tokenizer: Any, tokens: Sequence[TokenLogprob], offset: int = 0) -> TextLogprobs:
    """Tokens as completions report them; the first of them stands ``offset`` characters from the text's beginning."""
    words = [_word(tokenizer, token.token_id) for token in tokens]
    offsets = [offset]
    for word in words:
        offsets.append(offsets[-1] + len(word))
    return TextLogprobs(
        tokens=words,
        token_logprobs=[max(LEAST, token.logprob) for token in tokens],
        top_logprobs=[{_word(tokenizer, id): max(LEAST, value) for id, value in t.alternatives} for t in tokens],
        text_offset=offsets[:-1],
    )


def _said(tokenizer: Any, token: int, logprob: float) -> dict[str, Any]:
    raw = token_bytes(tokenizer, token)
    return {
        "token": _word(tokenizer, token),
        "logprob": max(LEAST, logprob),
        "bytes": None if raw is None else list(raw),
    }


def _word(tokenizer: Any, token: int) -> str:
    return (token_bytes(tokenizer, token) or b"").decode(errors="replace")


@cache
def _byte_of_letter() -> dict[str, int]:
    """How byte-level tokenizers write bytes: printable ones as themselves, the others from U+0100 on (as GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + k): byte for k, byte in enumerate(others)}
