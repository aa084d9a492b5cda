"""A request on its way through the engine, and what its caller holds of it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from ..base import BaseModel
from ..errors import AdapterHubError, RequestError
from .choosing import Chooser
from .grammar import Constraint
from .prompts import Voice
from .sampling import Completion, FinishReason, Sampling, Timing, TokenLogprob
from .wording import Wording


@dataclass(frozen=True)
class Row:
    """One prompt, ready to run.

    Args:
        ids: its tokens.
        voice: whose tokenizer made them.
        adapter: name of the adapter, as the caller said it; None is the base.
        key: what the adapter is registered under; None is the base.
        constraint: what its text has to keep to, at its beginning.
    """

    ids: list[int]
    voice: Voice
    adapter: str | None
    key: str | None = None
    constraint: Constraint | None = None


class Piece(NamedTuple):
    """Text that is certain, and what was asked to be reported of the tokens since the piece before."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Load:
    """What an engine does now and has done since its start.

    Args:
        active: requests that have a row.
        waiting: requests that have none yet.
        pages: pages of keys and values in use.
        max_pages: pages in all.
        steps: forwards.
        tokens: tokens given out.
        finished: requests that have ended, however.
        hits: requests whose adapter was resident when they came, those of the base included.
        loads: adapters brought to a slot for waiting requests.
    """

    active: int = 0
    waiting: int = 0
    pages: int = 0
    max_pages: int = 0
    steps: int = 0
    tokens: int = 0
    finished: int = 0
    hits: int = 0
    loads: int = 0


def max_positions(base: BaseModel) -> int | None:
    """Positions that a model has; None where they are not counted."""
    positions: int | None = getattr(base.model.config.get_text_config(), "max_position_embeddings", None)
    return positions


def check_length(base: BaseModel, row: Row, sampling: Sampling, max_prompt_tokens: int = 0) -> None:
    """Raise ``RequestError`` if a prompt is longer than may be (0: any), or a row cannot fit into the positions."""
    if 0 < max_prompt_tokens < len(row.ids):
        raise RequestError(
            f"the prompt has {len(row.ids)} tokens, {max_prompt_tokens} are allowed.",
            hint="Shorten it, or raise max_prompt_tokens.",
        )
    limit = max_positions(base)
    wanted = len(row.ids) + sampling.max_new_tokens
    if limit is not None and wanted > limit:
        raise RequestError(
            f"a prompt of {len(row.ids)} tokens and {sampling.max_new_tokens} new ones make {wanted}, "
            f"the model has {limit} positions.",
            hint="Shorten the prompt or ask for fewer tokens.",
        )


class Generation:
    """A submitted request: its text piece by piece (iterate), and its completion (``result``).

    Both may be used from any thread; each piece is given out once.
    """

    def __init__(self, id: str, row: Row, sampling: Sampling, *, deadline: float | None, is_streamed: bool) -> None:
        self.id = id
        self.row = row
        self.sampling = sampling
        self.deadline = deadline
        self.is_streamed = is_streamed
        self.slot: int | None = None  # of its adapter, while it has a row
        self.strikes = 0  # batches that failed with it in them
        self.num_merged = 0  # tokens that merged weights gave
        self.generated: list[int] = []
        constraint = None if row.constraint is None else row.constraint.fresh()
        self.chooser = Chooser(sampling, row.ids, self.generated, sampling.seed, constraint)
        self.wording = Wording(row.voice, sampling.stop)
        self.stop_ids = frozenset[int]() if sampling.ignore_eos else row.voice.stop_ids
        self._pieces = queue.SimpleQueue[Piece | None]()
        self._num_told = 0  # tokens that pieces have reported
        self._listener: Callable[[], None] | None = None
        self._done = threading.Event()
        self._cancelled = threading.Event()
        self._observers: list[Callable[[Generation], None]] = []
        self._observing = threading.Lock()
        self._completion: Completion | None = None
        self._error: AdapterHubError | None = None
        self._times = [time.monotonic(), 0.0, 0.0]

    def __iter__(self) -> Iterator[str]:
        """Pieces of the text as they come; raises what ``result`` raises once they are out."""
        while (piece := self._pieces.get()) is not None:
            if piece.text:
                yield piece.text
        self._pieces.put(None)  # whoever iterates again finds the end again
        if self._error is not None:
            raise self._error

    @property
    def is_done(self) -> bool:
        """Whether there is a completion, or an error."""
        return self._done.is_set()

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked for its end."""
        return self._cancelled.is_set()

    @property
    def error(self) -> AdapterHubError | None:
        """Why it failed, if it has."""
        return self._error

    def result(self, timeout: float | None = None) -> Completion:
        """Wait for the completion.

        Raises:
            TimeoutError: it is not done after ``timeout`` seconds; it goes on.
            AdapterHubError: it failed.
        """
        if not self._done.wait(timeout):
            raise TimeoutError(f"request {self.id} is not done after {timeout} seconds.")
        if self._error is not None:
            raise self._error
        assert self._completion is not None
        return self._completion

    def wait(self) -> None:
        """Wait until it is done, whatever comes of it."""
        self._done.wait()

    def cancel(self) -> None:
        """End it before its next token; what it has by then is its completion."""
        self._cancelled.set()

    def when_done(self, tell: Callable[[Generation], None]) -> None:
        """Call ``tell`` once it is done, in the engine's thread; at once where it is already."""
        with self._observing:
            if not self._done.is_set():
                self._observers.append(tell)
                return
        tell(self)

    def when_ready(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` now, and in the engine's thread whenever ``ready`` has something new, or it is done.

        It takes the place of the one before. It must not raise.
        """
        self._listener = tell
        tell()

    def ready(self) -> list[Piece]:
        """The pieces that have come since the last call, without waiting; for those who do not iterate."""
        found: list[Piece] = []
        with suppress(queue.Empty):
            while (piece := self._pieces.get_nowait()) is not None:
                found.append(piece)
            self._pieces.put(None)
        return found

    # What follows is the engine's.

    def enter(self, slot: int) -> None:
        """It has a row, and its adapter this slot."""
        self.slot = slot
        self._times[1] = time.monotonic()

    def take(self, token: int, is_merged: bool = False) -> FinishReason | None:
        """One more token; says why the text ends with it, if it does."""
        self._times[2] = self._times[2] or time.monotonic()
        if token in self.stop_ids:
            return "stop"
        self.generated.append(token)
        self.num_merged += is_merged
        if self.is_streamed or self.sampling.stop:
            self._say(self.wording.add(token))
            if self.wording.is_stopped:
                return "stop"
        return "length" if len(self.generated) >= self.sampling.max_new_tokens else None

    def finish(self, reason: FinishReason) -> None:
        """Make the completion."""
        self.wording.ids = self.generated
        self._say(self.wording.finish(), is_last=True)
        began, now = self._times[0], time.monotonic()
        entered, first = (at or now for at in self._times[1:])
        reported = tuple(self.chooser.logprobs[: len(self.generated)])
        self._completion = Completion(
            text=self.wording.text,
            adapter=self.row.adapter,
            token_ids=tuple(self.generated),
            prompt_tokens=len(self.row.ids),
            finish_reason="stop" if self.wording.is_stopped else reason,
            logprobs=None if self.sampling.logprobs is None else reported,
            timing=Timing(entered - began, first - began, now - began),
            merged_tokens=self.num_merged,
        )
        self._end()

    def fail(self, error: AdapterHubError) -> None:
        """End it with an error."""
        self._error = error
        self._end()

    def _say(self, text: str, *, is_last: bool = False) -> None:
        if not self.is_streamed or not (text or is_last):
            return
        new = tuple(self.chooser.logprobs[self._num_told : len(self.generated)])
        if text or new:
            self._num_told += len(new)
            self._pieces.put(Piece(text, new))
            self._tell()

    def _tell(self) -> None:
        if self._listener is not None:
            self._listener()

    def _end(self) -> None:
        with self._observing:
            self._done.set()
            observers, self._observers = self._observers, []
        self._pieces.put(None)
        self._tell()
        for tell in observers:
            tell(self)
