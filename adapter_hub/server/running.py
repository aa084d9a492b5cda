"""Every text that any route gives out comes from here: from its submission to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from ..engine import Completion, Generation, Piece
from .exchange import note, watch
from .rights import Caller
from .service import Service


@dataclass(frozen=True)
class Job:
    """What one HTTP request asks of the engine.

    Args:
        route: which route it came to.
        model: as the caller called it.
        key: of the adapter; None is the base.
        prompts: token ids.
        sampling: fields of ``Sampling`` but n.
        n: completions of each prompt. With a seed, the k-th is drawn with ``seed + k``.
        is_streamed: whether text is wanted as it comes.
    """

    route: str
    model: str
    key: str | None
    prompts: tuple[list[int], ...]
    sampling: Mapping[str, Any]
    n: int
    is_streamed: bool

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts, each counted once."""
        return sum(len(prompt) for prompt in self.prompts)


class Run:
    """The generations of one request. It begins with ``start``, and whoever has it ends it with ``end``.

    Args:
        service: the hub.
        caller: whose request it is.
        job: what is asked for.
    """

    def __init__(self, service: Service, caller: Caller, job: Job) -> None:
        self.service = service
        self.caller = caller
        self.job = job
        self.generations: list[Generation] = []
        self._place = ExitStack()  # among the requests that its caller may run at once

    async def start(self) -> None:
        """Submit all of its generations, or none.

        Raises:
            RateLimited: a limit of the caller's key is reached.
            RequestError: a sampling value cannot be, or the prompt is too long.
            Overloaded: too many requests wait.
        """
        try:
            self._place.enter_context(self.service.limits.entering(self.caller))
            await run_in_threadpool(self._submit)
        except BaseException:  # a cancelled task included: the thread has submitted by now
            self.end()
            raise

    def end(self) -> None:
        """Cancel what still runs. More than once does no harm."""
        for generation in self.generations:
            generation.cancel()
        self._place.close()

    async def events(self) -> AsyncIterator[tuple[int, Piece | Completion]]:
        """Pieces of text as they come, if asked for, and the completion of each generation, with its number.

        Raises:
            AdapterHubError: one of them failed.
        """
        wake, going = _Wake(), dict(enumerate(self.generations))
        for generation in self.generations:
            generation.when_ready(wake)
        while going:
            await wake.wait()
            for index, generation in list(going.items()):
                is_done = generation.is_done  # asked before its pieces are taken: what is done has given out all
                for piece in generation.ready():
                    yield index, piece
                if is_done:
                    del going[index]
                    yield index, generation.result()

    async def completions(self, request: Request) -> list[Completion] | None:
        """All completions, in order; None if the client went away, which cancels them."""
        gone = asyncio.create_task(_gone(request))
        gone.add_done_callback(lambda _: self.end())
        try:
            done = {index: what async for index, what in self.events() if isinstance(what, Completion)}
            return None if gone.done() else [done[index] for index in range(len(done))]
        finally:
            gone.cancel()
            self.end()

    def _submit(self) -> None:
        job, seed = self.job, self.job.sampling.get("seed")
        note(prompt_tokens=job.prompt_tokens)
        deadline = self.service.settings.request_timeout or None
        for prompt in job.prompts:
            for k in range(job.n):
                own = {} if seed is None else {"seed": seed + k}
                generation = self.service.hub.submit(
                    prompt,
                    adapter=job.key,
                    deadline=deadline,
                    wait=False,
                    is_streamed=job.is_streamed,
                    **{**job.sampling, **own},
                )
                self.generations.append(generation)
                watch(generation)
                generation.when_done(self._count)
        self.service.limits.count(self.caller, job.prompt_tokens)

    def _count(self, generation: Generation) -> None:
        """Charge what it generated, however it ended."""
        self.service.limits.count(self.caller, len(generation.generated))


class _Wake:
    """An event that other threads set; several calls before it is waited for are one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._is_called = False

    def __call__(self) -> None:
        if not self._is_called:
            self._is_called = True
            with suppress(RuntimeError):  # the server's loop has closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        await self._event.wait()
        self._event.clear()
        self._is_called = False


async def _gone(request: Request) -> None:
    """Wait until the client is no longer there."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
