"""Sends the requests of a load, and clocks the answers as they stream in."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from .plan import Job

ROUTES = {"chat": "/chat/completions", "completions": "/completions"}


@dataclass(frozen=True)
class Target:
    """What is driven, and how.

    Args:
        url: of the server, with or without ``/v1``.
        api_key: shown with each request; empty shows none.
        endpoint: ``chat`` or ``completions``.
        max_tokens: of each answer.
        timeout: seconds without a byte after which a request has failed.
    """

    url: str
    api_key: str = ""
    endpoint: str = "chat"
    max_tokens: int = 64
    timeout: float = 300.0

    @property
    def route(self) -> str:
        """The address of each request."""
        root = self.url.rstrip("/")
        return (root if root.endswith("/v1") else f"{root}/v1") + ROUTES[self.endpoint]

    def body(self, job: Job) -> dict[str, Any]:
        """One request."""
        asked: dict[str, Any] = {"model": job.adapter, "max_tokens": self.max_tokens, "temperature": 0, "stream": True}
        asked["stream_options"] = {"include_usage": True}
        if self.endpoint == "chat":
            return asked | {"messages": [{"role": "user", "content": job.prompt}]}
        return asked | {"prompt": job.prompt}


@dataclass(frozen=True)
class Outcome:
    """What became of one request.

    Args:
        adapter: the model that was asked for.
        seconds: from sending it to the end of its answer.
        first_token: until the first text of it came.
        prompt_tokens: as the server counts them; 0 where it does not say.
        completion_tokens: too; where it does not say, the pieces that came.
        error: why it failed; empty where it did not.
    """

    adapter: str
    seconds: float
    first_token: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""

    @property
    def per_token(self) -> float | None:
        """Seconds for each token after the first, if there are any."""
        if self.error or self.completion_tokens < 2:
            return None
        return (self.seconds - self.first_token) / (self.completion_tokens - 1)


async def drive(
    target: Target, jobs: Sequence[Job], *, concurrency: int | None, tell: Callable[[], object] = lambda: None
) -> tuple[list[Outcome], float]:
    """Send all requests: each when it is due or, with a concurrency, when one of so many before it is done.

    Returns:
        What became of each, in their order, and the seconds from the first to the last.
    """
    headers = {"authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    turn = None if concurrency is None else asyncio.Semaphore(concurrency)
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=target.timeout, trust_env=False) as client:
        start = time.perf_counter()

        async def one(job: Job) -> Outcome:
            if turn is None:
                await asyncio.sleep(max(0.0, start + job.at - time.perf_counter()))
                outcome = await _ask(client, target, job)
            else:
                async with turn:
                    outcome = await _ask(client, target, job)
            tell()
            return outcome

        outcomes = await asyncio.gather(*map(one, jobs))
        return list(outcomes), time.perf_counter() - start


async def _ask(client: httpx.AsyncClient, target: Target, job: Job) -> Outcome:
    start, first, pieces, is_whole = time.perf_counter(), 0.0, 0, False
    usage: dict[str, int] = {}
    try:
        async with client.stream("POST", target.route, json=target.body(job)) as response:
            if response.status_code != httpx.codes.OK:
                await response.aread()
                return Outcome(job.adapter, time.perf_counter() - start, error=_refusal(response))
            async for event in _events(response):
                if "error" in event:
                    return Outcome(job.adapter, time.perf_counter() - start, error=_reason(event["error"]))
                usage = event.get("usage") or usage
                for choice in event.get("choices", ()):
                    is_whole |= choice.get("finish_reason") is not None
                    if _text(choice):
                        first = first or time.perf_counter()
                        pieces += 1
    except (httpx.HTTPError, ValueError) as error:
        return Outcome(job.adapter, time.perf_counter() - start, error=_failure(error))
    end = time.perf_counter()
    if not is_whole:
        return Outcome(job.adapter, end - start, error="the answer breaks off")
    return Outcome(
        job.adapter,
        end - start,
        (first or end) - start,
        usage.get("prompt_tokens", 0),
        usage.get("completion_tokens", pieces),
    )


def _failure(error: Exception) -> str:
    """What went wrong on the way, the same for all that failed alike; some errors of httpx have no words."""
    name = type(error).__name__
    return f"{name}: {error}".removesuffix(": ") if isinstance(error, httpx.HTTPError) else name


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each server-sent event up to ``[DONE]``."""
    async for line in response.aiter_lines():
        name, _, data = line.partition(":")
        if name == "data" and data.strip() != "[DONE]":
            yield json.loads(data)


def _text(choice: dict[str, Any]) -> str:
    said = choice.get("delta", {}).get("content") if "delta" in choice else choice.get("text")
    return said or ""


def _refusal(response: httpx.Response) -> str:
    try:
        return f"{response.status_code}: {_reason(response.json()['error'])}"
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code}: {response.text[:200]}"


def _reason(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)
