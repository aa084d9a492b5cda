"""The front: from prompts and names to requests, and from requests to completions."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tqdm import tqdm

from . import engine
from .base import BaseModel
from .config import Settings
from .engine import Completion, Engine, Generation, Load, Prompt, Row, Sampling
from .errors import AdapterHubError, CannotBatch, PartialFailure, RequestError
from .residents import Residents

_log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """What a caller calls an adapter, and the reference by which to find it; None is the base."""

    name: str | None
    ref: str | None


class Front:
    """Runs prompts through the engine, or, where a model cannot be batched continuously, through its own generate.

    Args:
        base: the model.
        residents: the adapters.
        settings: the engine's budgets.
    """

    def __init__(self, base: BaseModel, residents: Residents, settings: Settings) -> None:
        self.base = base
        self.residents = residents
        self.max_prompt_tokens = settings.max_prompt_tokens
        self.refusal: CannotBatch | None = None
        self._engine = Engine(base, residents.places.room, settings)

    @property
    def engine(self) -> Engine | None:
        """The engine, started; None where the model cannot be batched continuously."""
        if self.refusal is None:
            try:
                self._engine.start()
            except CannotBatch as refusal:
                self.refusal = refusal
                _log.warning("%s transformers' own generate runs it, one batch after the other.", refusal)
        return None if self.refusal else self._engine

    def start(self) -> None:
        """Start the engine, or say why there is none."""
        if self.engine is None:
            assert self.refusal is not None
            raise CannotBatch(self.refusal.message, hint=self.refusal.hint) from self.refusal

    def load(self) -> Load:
        """What the engine does; all zero where it has not started."""
        return self._engine.load()

    def close(self) -> None:
        """End what runs. Once is enough."""
        self._engine.close()

    def generate(
        self,
        prompts: Sequence[Prompt],
        asked: Sequence[Asked],
        sampling: Sampling,
        deadline: float | None,
        progress: bool,
    ) -> list[Any]:
        """The completions of all prompts, in their order; lists of them where ``sampling.n`` is above 1."""
        # All rows are held against the model before the first of them runs.
        rows = self._rows(prompts, asked, sampling)
        running = self.engine
        if running is None:
            engine.hold_plain(self.base, sampling)
            rows = [row for row in rows for _ in range(sampling.n)]
            with self.residents.rows([row.key for row in rows]):
                return _by_prompt(engine.run_batch(self.base, rows, sampling), sampling.n)
        submitted: list[Generation] = []
        bar = tqdm(total=len(prompts) * sampling.n, disable=not progress, unit="answer")
        try:
            for row in rows:
                for each in _each_of(sampling):
                    submitted.append(running.submit(row, each, deadline=deadline))
                    submitted[-1].when_done(lambda _: bar.update())
            return _by_prompt(_collect(submitted), sampling.n)
        finally:
            for generation in submitted:
                generation.cancel()
            bar.close()

    def submit(
        self,
        prompt: Prompt,
        asked: Asked,
        sampling: Sampling,
        deadline: float | None,
        wait: bool,
        is_streamed: bool = True,
    ) -> Generation:
        """Queue one request."""
        running = self.engine
        if running is None:
            raise RequestError(str(self.refusal), hint="Use generate or stream.") from self.refusal
        if sampling.n > 1:
            raise RequestError(f"n is {sampling.n}.", hint="Submit each of several completions by itself.")
        (row,) = self._rows([prompt], [asked], sampling)
        return running.submit(row, sampling, deadline=deadline, is_streamed=is_streamed, wait=wait)

    def stream(self, prompt: Prompt, asked: Asked, sampling: Sampling) -> Generator[str, None, None]:
        """The text of one completion as it comes; closing the generator ends it."""
        if self.engine is None:
            engine.hold_plain(self.base, sampling)
            (row,) = self._rows([prompt], [asked], sampling)
            with self.residents.hold(row.key) as context:
                yield from engine.stream_row(self.base, row, sampling, context)
            return
        generation = self.submit(prompt, asked, sampling, None, True)
        try:
            yield from generation
        finally:
            generation.cancel()
            generation.wait()

    def encode(self, prompt: Prompt, ref: str | None) -> list[int]:
        """Token ids of a prompt as a request would have them. To ask is no use of the adapter."""
        (key,) = self.residents.resolve([ref])
        return self.residents.voice(key).encode(prompt)

    @property
    def max_sequence_tokens(self) -> int | None:
        """Tokens of a prompt and its completion together at most; None where nothing limits them."""
        running, positions = self.engine, engine.max_positions(self.base)
        limits = [positions, None if running is None else running.max_sequence_tokens]
        return min((limit for limit in limits if limit is not None), default=None)

    def can_chat(self, ref: str | None) -> bool:
        """Whether chat messages can be put to an adapter, or to the base. To ask is no use of it."""
        (key,) = self.residents.resolve([ref])
        return self.residents.voice(key).has_chat_template

    def _rows(self, prompts: Sequence[Prompt], asked: Sequence[Asked], sampling: Sampling) -> list[Row]:
        keys = self.residents.resolve([each.ref for each in asked])
        rows = []
        for prompt, (name, _), key in zip(prompts, asked, keys, strict=True):
            voice = self.residents.voice(key)
            constraint = engine.constraint_of(voice, sampling)
            rows.append(Row(voice.encode(prompt), voice, name, key, constraint))
            engine.check_length(self.base, rows[-1], sampling, self.max_prompt_tokens)
        self.residents.reader.count_uses(keys)
        return rows


def sampling_of(fields: Mapping[str, Any]) -> Sampling:
    """Sampling values from keywords. Raises ``RequestError`` that names the one that is not in order."""
    try:
        stop = fields.get("stop", ())
        return Sampling(**{**fields, "stop": (stop,) if isinstance(stop, str) else tuple(stop)})
    except TypeError as error:
        raise RequestError(f"sampling: {error}.", hint="See adapter_hub.Sampling for the fields.") from error


def _each_of(sampling: Sampling) -> list[Sampling]:
    """The requests that ``n`` completions are."""
    seeds = [None if sampling.seed is None else sampling.seed + k for k in range(sampling.n)]
    return [replace(sampling, n=1, seed=seed) for seed in seeds]


def _collect(submitted: Sequence[Generation]) -> list[Completion]:
    errors: dict[int, AdapterHubError] = {}
    done: list[Completion | None] = []
    for k, generation in enumerate(submitted):
        try:
            done.append(generation.result())
        except AdapterHubError as error:
            done.append(None)
            errors[k] = error
    if not errors:
        return [completion for completion in done if completion is not None]
    first = next(iter(errors.values()))
    if len(submitted) == 1:
        raise first
    raise PartialFailure(
        f"{len(errors)} of {len(submitted)} rows failed; the first: {first.message}",
        hint="The others are in .completions, the reasons in .errors, by row.",
        completions=done,
        errors=errors,
    ) from first


def _by_prompt(completions: Sequence[Completion], n: int) -> list[Any]:
    if n == 1:
        return list(completions)
    return [list(completions[k : k + n]) for k in range(0, len(completions), n)]
