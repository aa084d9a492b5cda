"""From tokens to text as they come, up to the first stop string."""

from __future__ import annotations

from collections.abc import Sequence

from .prompts import Voice

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a tokenizer makes of the first bytes of a character


class Wording:
    """The text of one sequence while its tokens come.

    Text is given out when later tokens cannot change it: not while its last character lacks bytes, nor while its
    end could begin a stop string.

    Args:
        voice: decodes.
        stop: strings that end the text; they are not part of it.
    """

    def __init__(self, voice: Voice, stop: tuple[str, ...] = ()) -> None:
        self.voice = voice
        self.stop = stop
        self.ids: list[int] = []
        self.is_stopped = False
        self._held = max((len(text) for text in stop), default=1) - 1
        self._text = ""
        self._given = 0
        # The text is made of pieces: tokens [begin, known) are those whose text is the last that is known.
        self._begin = self._known = 0

    def add(self, token: int) -> str:
        """Take one token; gives the text that is certain since the last call, often none."""
        self.ids.append(token)
        # A token's text depends on the one before it (a space, say), so both are decoded.
        before = self.voice.decode(self.ids[self._begin : self._known])
        now = self.voice.decode(self.ids[self._begin :])
        if len(now) <= len(before) or now.endswith(UNFINISHED):
            return ""
        self._text += now[len(before) :]
        self._begin, self._known = self._known, len(self.ids)
        return self._give(self._held)

    def finish(self) -> str:
        """No more tokens come; gives the rest of the text."""
        if not self.is_stopped:
            self._text = self._whole()
            return self._give(0)
        return ""

    @property
    def text(self) -> str:
        """All of the text that is known."""
        return self._text

    def _give(self, held: int) -> str:
        searched = max(0, self._given - self._held)
        cut = first_stop(self._text, self.stop, searched)
        if cut is not None:
            self.is_stopped = True
            self._text = self._text[:cut]
            held = 0
        end = max(self._given, len(self._text) - held)
        piece = self._text[self._given : end]
        self._given = end
        return piece

    def _whole(self) -> str:
        """The text decoded at once, where it goes on from what was given out; else what the pieces came to."""
        whole = self.voice.decode(self.ids)
        if whole.startswith(self._text[: self._given]):
            return whole
        before = self.voice.decode(self.ids[self._begin : self._known])
        return self._text + self.voice.decode(self.ids[self._begin :])[len(before) :]


def first_stop(text: str, stop: Sequence[str], begin: int = 0) -> int | None:
    """Where the first of these strings begins in a text; None if none of them occurs."""
    return min((at for at in (text.find(end, begin) for end in stop) if at >= 0), default=None)
