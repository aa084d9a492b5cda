"""Asks the hub: one answer, streamed and timed, or many side by side in one batch."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from adapter_hub import AdapterHub, AdapterHubError, Completion
from adapter_hub.errors import CannotBatch, PartialFailure, RequestError

from .conversation import Pace, Swap, Turn, messages

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What one side of a comparison said: a completion, or a sentence on why there is none."""

    adapter: str | None
    completion: Completion | None
    error: str = ""

    @property
    def text(self) -> str:
        """The answer's text; empty where there is none."""
        return self.completion.text if self.completion is not None else ""


@dataclass(frozen=True)
class Comparison:
    """Answers to one question, made in one batch in ``seconds``."""

    answers: tuple[Answer, ...]
    seconds: float


class Stop:
    """Ends one answer when somebody asks for it, even before the answer has begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Any = None
        self.is_asked = False

    def ask(self) -> None:
        """End it."""
        with self._lock:
            self.is_asked = True
            if self._running is not None:
                self._running.cancel()

    def watch(self, running: Any) -> None:
        """This is what is to be ended."""
        with self._lock:
            self._running = running
            if self.is_asked:
                running.cancel()


class StopSignals:
    """One signal for each session that generates right now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, Stop] = {}

    @contextmanager
    def running(self, session: str) -> Iterator[Stop]:
        """The signal of a session's generation, while the block runs."""
        signal = Stop()
        with self._lock:
            self._running[session] = signal
        try:
            yield signal
        finally:
            with self._lock:
                if self._running.get(session) is signal:
                    del self._running[session]

    def stop(self, session: str) -> None:
        """End the session's generation, if there is one."""
        with self._lock:
            signal = self._running.get(session)
        if signal is not None:
            signal.ask()


class _Streamed:
    """What ``hub.stream`` gives, in the place of a ``Generation`` where the model cannot be batched continuously."""

    def __init__(self, pieces: Any) -> None:
        self._pieces = pieces
        self._cancelled = False

    def __iter__(self) -> Iterator[str]:
        for piece in self._pieces:
            yield piece
            if self._cancelled:
                break

    def cancel(self) -> None:
        self._cancelled = True

    def result(self) -> None:
        self._pieces.close()


def sentence(error: Exception) -> str:
    """An error as the page says it. One that nobody foresaw goes to the log as well, with its traceback."""
    if isinstance(error, AdapterHubError):
        text = str(error)
        # A sentence that begins with an address or a path keeps it as it is.
        return text if "/" in text.partition(" ")[0] else text[:1].upper() + text[1:]
    _LOG.error("an answer of the demo failed", exc_info=error)
    return f"Something broke here: {type(error).__name__}. The server's log has the details."


def bring_in(hub: AdapterHub, adapter: str | None) -> Swap | None:
    """Make an adapter ready and measure how long that took; None for the base, which always is.

    Raises:
        AdapterHubError: it is not registered, or its files are not what they were.
    """
    if adapter is None:
        return None
    tier = hub.tier(adapter)
    started = time.perf_counter()
    hub.load_adapter(adapter)
    return Swap(time.perf_counter() - started, tier)


def answer(
    hub: AdapterHub, turns: Sequence[Turn], turn: Turn, stop: Stop, sampling: Mapping[str, Any]
) -> Iterator[Turn]:
    """The turn as its answer grows, then once more with its pace. Errors end it as a sentence in the turn.

    Args:
        turns: the conversation before it.
        turn: the prompt, and which adapter answers.
        stop: ends the answer early when it is asked to.
        sampling: fields of ``adapter_hub.Sampling``.
    """
    try:
        turn = replace(turn, swap=bring_in(hub, turn.adapter))
        started, first = time.perf_counter(), None
        running = _start(hub, messages(turns, turn.prompt), turn.adapter, sampling)
        stop.watch(running)
        try:
            for piece in running:
                first = time.perf_counter() if first is None else first
                turn = replace(turn, answer=turn.answer + piece)
                yield turn
        finally:
            running.cancel()
        done = running.result()
        pace = None if done is None else Pace.of(done)
        pace = pace or Pace((first or time.perf_counter()) - started)
        yield replace(turn, pace=pace, stopped=stop.is_asked, finished=True)
    except Exception as error:
        yield replace(turn, error=sentence(error), finished=True)


def _start(hub: AdapterHub, chat: Sequence[Mapping[str, str]], adapter: str | None, sampling: Mapping[str, Any]) -> Any:
    try:
        return hub.submit(chat, adapter=adapter, **sampling)
    except RequestError as error:
        if not isinstance(error.__cause__, CannotBatch):
            raise
        return _Streamed(hub.stream(chat, adapter=adapter, **sampling))


def compare(hub: AdapterHub, prompt: str, adapters: Sequence[str | None], max_new_tokens: int) -> Comparison:
    """Let each of these answer one prompt in one mixed batch, greedily: no chance in it. A row may fail alone.

    Args:
        prompt: one user message.
        adapters: names, or sums of such; None is the base.
        max_new_tokens: of each answer.

    Raises:
        AdapterHubError: the prompt or an adapter is not in order.
    """
    chat = [{"role": "user", "content": prompt}]
    started = time.perf_counter()
    try:
        done = hub.generate([chat] * len(adapters), adapters=list(adapters), max_new_tokens=max_new_tokens)
        errors: Mapping[int, Exception] = {}
    except PartialFailure as failure:
        done, errors = failure.completions, failure.errors
    answers = tuple(
        Answer(adapter, completion, sentence(errors[k]) if k in errors else "")
        for k, (adapter, completion) in enumerate(zip(adapters, done, strict=True))
    )
    return Comparison(answers, time.perf_counter() - started)
