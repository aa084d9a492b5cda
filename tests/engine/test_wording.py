"""Text as its tokens come: the pieces are the whole, no character is cut, nothing of a stop string gets out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_hub.engine.wording import Wording


class Bytes:
    """A voice whose tokens are bytes: a character may take four of them."""

    def decode(self, ids):
        return bytes(ids).decode(errors="replace")


def _pieces(text, stop=(), voice=None, ids=None):
    wording = Wording(voice or Bytes(), tuple(stop))
    pieces = []
    for id in text.encode() if ids is None else ids:
        pieces.append(wording.add(id))
        if wording.is_stopped:
            break
    pieces.append(wording.finish())
    return wording, pieces


def _cut(text, stop):
    return text[: min((text.find(end) for end in stop if end in text), default=len(text))]


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_the_pieces_are_the_text_up_to_the_first_stop_string(text, stop):
    wording, pieces = _pieces(text, stop)
    assert wording.text == "".join(pieces)
    if not stop or not wording.is_stopped:
        assert wording.text == text
        assert not any(end in text for end in stop)
    else:
        # Which of several strings comes first is decided by the text so far, not by what would have come.
        assert any(text[len(wording.text) :].startswith(end) for end in stop)
        assert len(wording.text) >= len(_cut(text, stop))


def test_a_character_is_given_out_whole():
    _, pieces = _pieces("aé€😀b")
    assert [piece for piece in pieces if piece] == ["a", "é", "€", "😀", "b"]


def test_what_could_begin_a_stop_string_is_held_back():
    _, pieces = _pieces("a</s>", ["</stop>"])
    assert pieces[0] == ""
    assert "".join(pieces) == "a</s>"


def test_bytes_that_never_become_a_character_come_at_the_end():
    wording, pieces = _pieces("", ids=[97, 0xE2, 0x82])
    assert wording.text == "".join(pieces) == Bytes().decode([97, 0xE2, 0x82])


@pytest.mark.parametrize("text", ["The capital of France is Paris.", " two  spaces", "naïve 😀 ünï", "a\n\nb\tc"])
def test_the_real_tokenizer_gives_its_own_text_in_pieces(text):
    from transformers import AutoTokenizer

    from adapter_hub.base.default import default_base_folder
    from adapter_hub.engine import base_voice

    tokenizer = AutoTokenizer.from_pretrained(default_base_folder())
    voice = base_voice(tokenizer, None, len(tokenizer))
    ids = tokenizer(text)["input_ids"]
    wording, pieces = _pieces("", voice=voice, ids=ids)
    assert wording.text == "".join(pieces) == voice.decode(ids)
