"""One request to the server with its answer: what its log line, its span and the metrics are made of."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from ..engine import Generation

_MAY_BE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_current: ContextVar[Exchange | None] = ContextVar("adapter_hub_exchange", default=None)


@dataclass(eq=False)
class Exchange:
    """One request and its answer, as far as they have come.

    Args:
        id: by which client, log and trace call it.
        method: of HTTP.
        path: as it was asked for.
        headers: of the request, by name in lower case.
        began: when it came, in seconds of ``time.time``.
        route: the template of the path; None where there is none.
        caller: name of the API key.
        model: as the client wrote it.
        prompt_tokens: of its prompts, each counted once.
        status: of the answer; None where none was begun.
        seconds: until the answer's end; 0 before.
        is_gone: the client went away before it.
        generations: what the hub runs for it.
        error: name of the class of what went wrong inside, if something did.
    """

    id: str
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.time)
    route: str | None = None
    caller: str | None = None
    model: str | None = None
    prompt_tokens: int = 0
    status: int | None = None
    seconds: float = 0.0
    is_gone: bool = False
    generations: list[Generation] = field(default_factory=list)
    error: str | None = None
    settled: Callable[[Generation], None] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether everything that the hub ran for it is done."""
        return all(generation.is_done for generation in self.generations)

    def cancel(self) -> None:
        """End what the hub runs for it."""
        for generation in self.generations:
            generation.cancel()


def id_of(given: str | None) -> str:
    """The id that a client gave its request, if it can be one; else a new one."""
    return given if given is not None and _MAY_BE_ID.fullmatch(given) else uuid.uuid4().hex


def current() -> Exchange | None:
    """The exchange that this code runs for; None outside of one."""
    return _current.get()


@contextmanager
def entered(exchange: Exchange) -> Iterator[None]:
    """Within the block, an exchange is the current one of this task and of the threads that it hands work to."""
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)


def note(*, model: str | None = None, prompt_tokens: int | None = None) -> None:
    """Say what the current exchange asks for, as soon as it is known: a refusal is logged with it."""
    exchange = current()
    if exchange is not None:
        exchange.model = exchange.model if model is None else model
        exchange.prompt_tokens = exchange.prompt_tokens if prompt_tokens is None else prompt_tokens


def watch(generation: Generation) -> None:
    """Count a generation to the current exchange. Every generation of a route has to come through here."""
    exchange = current()
    if exchange is not None:
        exchange.generations.append(generation)
        if exchange.settled is not None:
            generation.when_done(exchange.settled)
