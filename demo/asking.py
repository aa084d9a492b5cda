"""Asks the hub: one answer, streamed and timed, or the base and an adapter side by side."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from adapter_hub import AdapterHub, AdapterHubError, Completion

from .conversation import Pace, Swap, Turn, messages

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """Two answers to one question, made in one batch."""

    base: Completion
    adapter: Completion
    seconds: float


class StopSignals:
    """One signal for each session that generates right now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, threading.Event] = {}

    @contextmanager
    def running(self, session: str) -> Iterator[threading.Event]:
        """The signal of a session's generation, while the block runs."""
        signal = threading.Event()
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
            signal.set()


def sentence(error: Exception) -> str:
    """An error as the page says it. One that nobody foresaw goes to the log as well, with its traceback."""
    if isinstance(error, AdapterHubError):
        text = str(error)
        return text[:1].upper() + text[1:]
    _LOG.error("an answer of the demo failed", exc_info=error)
    return f"Something broke here: {type(error).__name__}. The server's log has the details."


def bring_in(hub: AdapterHub, adapter: str | None) -> Swap | None:
    """Make an adapter ready and measure how long that took; None for the base, which always is.

    Raises:
        AdapterHubError: it is not registered, or its files are not what they were.
    """
    if adapter is None:
        return None
    loaded = not hub.info(adapter).resident
    started = time.perf_counter()
    hub.load_adapter(adapter)
    return Swap(time.perf_counter() - started, loaded)


def answer(
    hub: AdapterHub, turns: Sequence[Turn], turn: Turn, stop: threading.Event, sampling: Mapping[str, Any]
) -> Iterator[Turn]:
    """The turn as its answer grows, then once more with its pace. Errors end it as a sentence in the turn.

    Args:
        turns: the conversation before it.
        turn: the prompt, and which adapter answers.
        stop: ends the answer early when it is set.
        sampling: fields of ``adapter_hub.Sampling``.
    """
    try:
        turn = replace(turn, swap=bring_in(hub, turn.adapter))
        started, first = time.perf_counter(), None
        pieces = hub.stream(messages(turns, turn.prompt), adapter=turn.adapter, **sampling)
        with closing(pieces):
            for piece in pieces:
                if piece:
                    first = time.perf_counter() if first is None else first
                    turn = replace(turn, answer=turn.answer + piece)
                    yield turn
                if stop.is_set():
                    turn = replace(turn, stopped=True)
                    break
        ended = time.perf_counter()
        pace = _pace(hub, turn.answer, started, ended if first is None else first, ended)
        yield replace(turn, pace=pace, finished=True)
    except Exception as error:
        yield replace(turn, error=sentence(error), finished=True)


def compare(hub: AdapterHub, question: Sequence[Mapping[str, str]], adapter: str, max_new_tokens: int) -> Comparison:
    """Let the base and an adapter answer one question in one mixed batch, greedily: no chance in it.

    Raises:
        AdapterHubError: the question or the adapter is not in order.
    """
    bring_in(hub, adapter)
    started = time.perf_counter()
    base, adapted = hub.generate([question, question], adapters=[None, adapter], max_new_tokens=max_new_tokens)
    return Comparison(base, adapted, time.perf_counter() - started)


def _pace(hub: AdapterHub, text: str, started: float, first: float, ended: float) -> Pace:
    # A stream gives text only, so its tokens are counted by encoding that text again.
    tokens = len(hub.tokenizer.encode(text, add_special_tokens=False)) if text else 0
    rate = (tokens - 1) / (ended - first) if tokens > 1 and ended > first else None
    return Pace(first - started, tokens, rate)
