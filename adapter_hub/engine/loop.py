"""The engine's loop: plan, run, settle, and what becomes of a step that fails."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from torch import Tensor

from .. import cores
from ..base import BaseModel
from ..config import Settings
from ..errors import AdapterHubError, Overloaded
from ..memory import is_shortage
from .budgets import Budgets, NewToken
from .choosing import choose
from .failures import engine_failed, is_fatal, return_memory, step_failed
from .loader import Loader
from .paged import PagedBatch
from .proof import prove
from .requests import Generation, Load
from .sampling import FinishReason
from .schedule import AdapterScheduler, EngineRoom, Entering, Ticket
from .sequences import sequence_of

IDLE_SECONDS = 0.05  # how often a loop with nothing to run looks at deadlines and cancellations
MAX_STRIKES = 3  # batches that may fail with a request in them, while it runs alone
QUIET_STEPS = 256  # steps without running out of memory after which more rows are tried again


class Loop:
    """A thread that runs requests until it is stopped or fails.

    Args:
        base: the model.
        room: the slots.
        settings: how many may wait, and how long for a slot.
        budgets: of pages and steps.
        is_proven: whether this model is known to run in this way.

    Raises:
        CannotBatch: the model cannot be run in this way.
        BaseModelError: the cache does not fit.
    """

    def __init__(
        self, base: BaseModel, room: EngineRoom, settings: Settings, budgets: Budgets, is_proven: bool
    ) -> None:
        self.room = room
        self.batch = PagedBatch(base, budgets, self._choose, room.capture_key if settings.cuda_graphs else None)
        if not is_proven:
            try:
                prove(self.batch, base)
            except BaseException:
                self.batch.close()
                raise
        self.max_sequence_tokens = self.batch.max_sequence_tokens
        self.scheduler = AdapterScheduler(room, patience=settings.patience)
        self.steps = self._tokens = self._finished = 0
        self._max_tokens = budgets.max_tokens
        self._max_rows = self._limit = budgets.max_rows
        self._max_waiting = settings.max_waiting
        self._quiet = 0
        self._changed = threading.Condition()
        self._inbox: deque[Callable[[], None]] = deque()
        self._num_arriving = 0
        self._all: dict[str, Generation] = {}
        self._parked: deque[Generation] = deque()
        self._end: AdapterHubError | None = None
        self._loader = Loader(room.bring, self.scheduler.max_loads, self._tell_brought)
        self._thread = threading.Thread(target=self._run, name="adapter-hub-engine", daemon=True)
        cores.release()  # this thread has loaded and proven the model
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it takes requests."""
        return self._end is None and self._thread.is_alive()

    @property
    def num_waiting(self) -> int:
        """Requests that have no row yet."""
        return self._num_arriving + self.scheduler.num_waiting

    def load(self) -> Load:
        """What it does and has done."""
        total = self.batch.num_pages
        return Load(
            active=len(self.scheduler.active),
            waiting=self.num_waiting,
            pages=total - min(total, self.batch.num_free_pages),
            max_pages=total,
            steps=self.steps,
            tokens=self._tokens,
            finished=self._finished,
            hits=self.scheduler.hits,
            loads=self.scheduler.loads,
        )

    def take_in(self, generation: Generation, wait: bool) -> None:
        """Queue a request, from any thread. Raises ``Overloaded``, or why the loop has ended."""
        cores.release()
        with self._changed:
            while self.num_waiting >= self._max_waiting and self._end is None:
                if not wait:
                    raise Overloaded(
                        f"{self.num_waiting} requests wait already.", hint="Try again later, or raise max_waiting."
                    )
                self._changed.wait(IDLE_SECONDS)
            if self._end is not None:
                raise self._end
            self._num_arriving += 1
            self._inbox.append(lambda: self._arrive(generation))
            self._changed.notify_all()

    def stop(self, error: AdapterHubError) -> None:
        """End every request with this error, from any thread but its own."""
        with self._changed:
            self._end = self._end or error
            self._changed.notify_all()
        self._thread.join()

    # From here on: the loop's own thread.

    def _run(self) -> None:
        try:
            while self._end is None:
                self._receive()
                if not self._step():
                    cores.release()
                    with self._changed:
                        self._changed.wait_for(lambda: self._inbox or self._end, IDLE_SECONDS)
        except BaseException as error:  # every waiter has to hear of it
            self._end = self._end or engine_failed(error)
        finally:
            self._end_all()

    def _step(self) -> bool:
        """Plan, run, settle; False if there was nothing to run."""
        self._admit(self.scheduler.enter(self._free_rows()))
        if not self.batch.num_sequences:
            return False
        new = self._forward()
        self.steps += 1  # whoever has an answer finds its steps counted
        self._settle(new)
        return True

    def _receive(self) -> None:
        while self._inbox:
            self._inbox.popleft()()
        now = time.monotonic()
        for generation in list(self._all.values()):
            if generation.is_cancelled:
                self._finish(generation, "cancelled")
            elif generation.deadline is not None and now > generation.deadline:
                self._finish(generation, "deadline")

    def _arrive(self, generation: Generation) -> None:
        self._num_arriving -= 1
        self._all[generation.id] = generation
        steps = generation.sampling.max_new_tokens + -(-len(generation.row.ids) // self._max_tokens)
        self.scheduler.add(Ticket(generation.id, generation.row.key, steps))

    def _free_rows(self) -> int:
        while self._parked and self.batch.num_sequences < self._limit:
            self._add(self._parked.popleft())
        # Sequences that found no page come first: whoever entered now would take theirs.
        if self._parked or self.batch.num_waiting:
            return 0
        return max(0, self._limit - self.batch.num_sequences)

    def _admit(self, entering: Entering) -> None:
        for ticket in entering.admitted:
            generation, slot = self._all[ticket.id], self.room.lease(ticket.key)
            if slot is None:
                self.scheduler.again(ticket)
                continue
            generation.enter(slot)
            try:
                self._add(generation)
            except AdapterHubError as error:  # it was taken out of the registry by another process
                self._fail(generation, error)
        for key in entering.wanted:
            self._loader.load(key)
        for ticket in entering.stuck:
            assert ticket.key is not None, "the base has its slot"
            self._fail(self._all[ticket.id], self.room.refusal(ticket.key))

    def _add(self, generation: Generation) -> None:
        self.batch.add(sequence_of(generation, self.room))

    def _tell_brought(self, key: str, error: AdapterHubError | None) -> None:
        """Called by the loader, in a thread of its own."""
        with self._changed:
            self._inbox.append(lambda: self._brought(key, error))
            self._changed.notify_all()

    def _brought(self, key: str, error: AdapterHubError | None) -> None:
        if error is None:
            self.scheduler.loaded(key)
            return
        for ticket in self.scheduler.failed(key):
            self._fail(self._all[ticket.id], error)

    def _choose(self, logits: Tensor, ids: Sequence[str]) -> Tensor:
        return choose(logits, [self._all[id].chooser for id in ids])

    def _settle(self, new: Sequence[NewToken]) -> None:
        self._tokens += len(new)
        for token in new:
            generation = self._all[token.id]
            reason = generation.take(token.token, token.is_merged)
            if reason is not None or token.is_last:
                self._finish(generation, reason or "length")

    def _finish(self, generation: Generation, reason: FinishReason) -> None:
        self._release(generation)
        generation.finish(reason)

    def _fail(self, generation: Generation, error: AdapterHubError) -> None:
        self._release(generation)
        generation.fail(error)

    def _release(self, generation: Generation) -> None:
        self._finished += 1
        del self._all[generation.id]
        self.batch.drop(generation.id)
        self.scheduler.leave(generation.id)
        if generation in self._parked:
            self._parked.remove(generation)
        if generation.slot is not None:
            self.room.release(generation.row.key)
        with self._changed:
            self._changed.notify_all()

    def _forward(self) -> list[NewToken]:
        try:
            new = self.batch.step()
        except Exception as error:
            if is_fatal(error):
                raise
            self._recover(error)
            return []
        self._quiet += 1
        if self._limit < self._max_rows and self._quiet >= QUIET_STEPS:
            self._limit, self._quiet = min(self._max_rows, 2 * self._limit), 0
        return new

    def _recover(self, error: Exception) -> None:
        """Find out which requests of a failed step fail alone, and let the others go on from where they were."""
        doubted = [self._all[id] for id in self.batch.running or self.scheduler.active]
        active = [self._all[id] for id in self.scheduler.active if self._all[id] not in self._parked]
        for generation in active:
            self.batch.drop(generation.id)
        if is_shortage(error) and not self._has_freed():
            self._limit, self._quiet = max(1, len(doubted) // 2), 0
        for generation in doubted:
            if not is_shortage(error):
                generation.strikes += 1
            self._try_alone(generation, error)
        self._parked.extend(generation for generation in active if not generation.is_done)

    def _try_alone(self, generation: Generation, error: Exception) -> None:
        """Let one request have its next token with nothing beside it; it fails if that does."""
        failure: Exception | None = error if generation.strikes >= MAX_STRIKES else None
        if failure is None:
            self._add(generation)
            try:
                new = self._next_alone()
            except Exception as alone:
                failure = alone
            else:
                self._settle(new)
        if failure is None:
            self.batch.drop(generation.id)
            return
        if is_fatal(failure):
            raise failure
        if is_shortage(failure) and self._has_freed():
            self.batch.drop(generation.id)
            self._try_alone(generation, error)
            return
        self._fail(generation, step_failed(failure))
        if is_shortage(failure):
            return_memory()

    def _has_freed(self) -> bool:
        """Whether there was anything to give up for a step that has not enough memory."""
        freed = self.room.surrender()
        return_memory()
        return freed

    def _next_alone(self) -> list[NewToken]:
        while not (new := self.batch.step()):
            if not self.batch.running:
                raise RuntimeError("no pages can be found for it")
        return new

    def _end_all(self) -> None:
        with self._changed:
            assert self._end is not None
            arriving, self._inbox = self._inbox, deque()
        self._loader.close()
        for tell in [*arriving, *self._inbox]:
            tell()
        for generation in list(self._all.values()):
            if generation.slot is not None:
                self.room.release(generation.row.key)
            generation.fail(self._end)
        self._all.clear()
        self.batch.close()
