"""The engine: takes requests from any thread, and runs them together in a loop of its own."""

from __future__ import annotations

import itertools
import threading
import time

from ..base import BaseModel
from ..config import Settings
from ..errors import EngineStopped, RequestError
from .budgets import Budgets, default_budgets
from .loop import Loop
from .requests import Generation, Load, Row
from .sampling import Sampling
from .schedule import EngineRoom


class Engine:
    """Runs requests of any adapters together. Safe from any thread.

    It starts with the first request, and again with the next one after it has failed as a whole.

    Args:
        base: the model.
        room: the slots.
        settings: budgets.
    """

    def __init__(self, base: BaseModel, room: EngineRoom, settings: Settings) -> None:
        self.base = base
        self.room = room
        self.settings = settings
        self.budgets: Budgets = default_budgets(base, settings)
        self._ids = itertools.count(1)
        self._starting = threading.Lock()
        self._closed = self._is_proven = False
        self._loop: Loop | None = None

    def start(self) -> None:
        """Start now rather than with the first request; nothing happens where it runs.

        Raises:
            CannotBatch: the model's architecture cannot be run like this.
            BaseModelError: the cache of keys and values does not fit.
            EngineStopped: the engine was closed.
        """
        self._alive()

    def submit(
        self,
        row: Row,
        sampling: Sampling,
        *,
        deadline: float | None = None,
        is_streamed: bool = False,
        wait: bool = True,
    ) -> Generation:
        """Queue a request.

        Args:
            row: its prompt and adapter.
            sampling: how its tokens are chosen.
            deadline: seconds from now after which it ends with what it has.
            is_streamed: whether pieces of its text are wanted as they come.
            wait: while as many wait as may, hold the caller back, rather than turn it away.

        Raises:
            RequestError: it can never fit.
            Overloaded: as many requests wait as may.
            EngineStopped: the engine was closed.
        """
        loop = self._alive()
        self._hold_fit(loop, row, sampling)
        until = None if deadline is None else time.monotonic() + deadline
        generation = Generation(f"r{next(self._ids)}", row, sampling, deadline=until, is_streamed=is_streamed)
        loop.take_in(generation, wait)
        return generation

    def close(self) -> None:
        """End every request with ``EngineStopped``, and give the model its own attention back. Once is enough."""
        with self._starting:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop(EngineStopped("the engine was closed.", hint="Open the hub again."))

    @property
    def max_sequence_tokens(self) -> int:
        """Tokens that the cache of keys and values has room for in one sequence."""
        return self._alive().max_sequence_tokens

    def load(self) -> Load:
        """What it does now and has done since it started; all zero before that."""
        loop = self._loop
        return Load() if loop is None or not loop.is_alive else loop.load()

    def _alive(self) -> Loop:
        with self._starting:
            if self._closed:
                raise EngineStopped("the engine was closed.", hint="Open the hub again.")
            if self._loop is not None and not self._loop.is_alive:
                # Until it has ended it still gives the model's attention back.
                self._loop.stop(EngineStopped("the engine failed."))
                self._loop = None
            if self._loop is None:
                self._loop = Loop(self.base, self.room, self.settings, self.budgets, self._is_proven)
                self._is_proven = True
            return self._loop

    def _hold_fit(self, loop: Loop, row: Row, sampling: Sampling) -> None:
        wanted = len(row.ids) + sampling.max_new_tokens
        if wanted > loop.max_sequence_tokens:
            raise RequestError(
                f"a prompt of {len(row.ids)} tokens and {sampling.max_new_tokens} new ones make {wanted}, "
                f"the cache of keys and values holds {loop.max_sequence_tokens}.",
                hint="Ask for fewer tokens, or raise cache_bytes.",
            )
