"""For models that cannot be batched continuously: one batch through transformers' own ``generate``."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import TextIteratorStreamer

from ..base import BaseModel
from ..errors import RequestError
from .requests import Row
from .sampling import Completion, Sampling


def run_batch(base: BaseModel, rows: Sequence[Row], sampling: Sampling) -> list[Completion]:
    """Generate for all rows at once. The caller has put the rows' adapters in force."""
    ids = _run(base, rows, sampling, threading.Event(), None)
    prompt_len = max(len(row.ids) for row in rows)
    return [_completion(row, new[prompt_len:].tolist(), sampling) for row, new in zip(rows, ids, strict=True)]


def stream_row(base: BaseModel, row: Row, sampling: Sampling, context: Any) -> Iterator[str]:
    """Generate for one row in a thread of its own and give out the text as it comes.

    Args:
        context: a ``contextvars.Context`` in which the row's adapter is in force.
    """
    streamer = TextIteratorStreamer(row.voice.tokenizer, skip_prompt=True, skip_special_tokens=True)
    cancelled, failures = threading.Event(), queue.SimpleQueue[BaseException]()

    def work() -> None:
        try:
            context.run(_run, base, [row], sampling, cancelled, streamer)
        except BaseException as error:  # it is raised again in the thread that reads
            failures.put(error)
            streamer.end()

    thread = threading.Thread(target=work, name="adapter-hub-stream", daemon=True)
    thread.start()
    try:
        yield from until_stop(streamer, sampling.stop)
    finally:
        cancelled.set()
        thread.join()
    if not failures.empty():
        raise failures.get()


def hold_plain(base: BaseModel, sampling: Sampling) -> None:
    """Raise ``RequestError`` for choices that transformers' ``generate`` cannot make row by row."""
    plain = {"max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "stop", "n"}
    usual = Sampling()
    asked = [field.name for field in fields(sampling) if getattr(sampling, field.name) != getattr(usual, field.name)]
    refused = sorted(set(asked) - plain)
    if refused:
        raise RequestError(
            f"{', '.join(refused)} cannot be chosen on {type(base.model).__name__}.",
            hint="Its attention cannot be batched continuously, so transformers' own generate runs it.",
        )


def _run(base: BaseModel, rows: Sequence[Row], sampling: Sampling, cancelled: threading.Event, streamer: Any) -> Tensor:
    width = max(len(row.ids) for row in rows)
    pad = next(iter(rows[0].voice.stop_ids), 0)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros_like(ids)
    for k, row in enumerate(rows):
        ids[k, width - len(row.ids) :] = torch.tensor(row.ids)
        mask[k, width - len(row.ids) :] = 1
    stopping = _RowsFinished(rows, width, sampling.stop, cancelled, pad)
    with torch.inference_mode():
        generated: Tensor = base.model.generate(
            input_ids=ids.to(base.device),
            attention_mask=mask.to(base.device),
            generation_config=_generation_config(sampling, pad),
            stopping_criteria=StoppingCriteriaList([stopping]),
            streamer=streamer,
        )
    return generated


def _generation_config(sampling: Sampling, pad: int) -> GenerationConfig:
    chosen: dict[str, Any] = {"do_sample": False}
    if sampling.temperature > 0:
        chosen = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
        }
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        repetition_penalty=sampling.repetition_penalty,
        pad_token_id=pad,
        eos_token_id=[],
        **chosen,
    )


class _RowsFinished(StoppingCriteria):
    """Ends each row at its own end tokens or stop strings; rows of one batch may have different ones.

    ``eos_token_id`` is what makes ``generate`` pad rows that have ended.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        prompt_len: int,
        stop: tuple[str, ...],
        cancelled: threading.Event,
        pad: int,
    ) -> None:
        self.rows = rows
        self.prompt_len = prompt_len
        self.stop = stop
        self.cancelled = cancelled
        self.eos_token_id = pad

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        if self.cancelled.is_set():
            return torch.ones(len(self.rows), dtype=torch.bool, device=input_ids.device)
        last = input_ids[:, -1].tolist()
        done = [token in row.voice.stop_ids for token, row in zip(last, self.rows, strict=True)]
        if self.stop:
            new = input_ids[:, self.prompt_len :].tolist()
            done = [
                ended or any(text in row.voice.decode(ids) for text in self.stop)
                for ended, row, ids in zip(done, self.rows, new, strict=True)
            ]
        return torch.tensor(done, device=input_ids.device)


def _completion(row: Row, new: list[int], sampling: Sampling) -> Completion:
    end = next((k for k, token in enumerate(new) if token in row.voice.stop_ids), None)
    ids = new[: sampling.max_new_tokens if end is None else end]
    text = row.voice.decode(ids)
    cut = min((at for at in (text.find(stop) for stop in sampling.stop) if at >= 0), default=None)
    if cut is not None:
        text = text[:cut]
        ids = ids[
            : next(n for n in range(1, len(ids) + 1) if any(s in row.voice.decode(ids[:n]) for s in sampling.stop))
        ]
    return Completion(
        text=text,
        adapter=row.adapter,
        token_ids=tuple(ids),
        prompt_tokens=len(row.ids),
        finish_reason="length" if end is None and cut is None else "stop",
    )


def until_stop(pieces: Iterator[str], stop: tuple[str, ...]) -> Iterator[str]:
    """Pass text on up to the first stop string, holding back what could be the beginning of one."""
    held = max((len(text) for text in stop), default=1) - 1
    text = ""
    for piece in pieces:
        text += piece
        cut = min((at for at in (text.find(end) for end in stop) if at >= 0), default=None)
        if cut is not None:
            if cut:
                yield text[:cut]
            return
        if len(text) > held:
            yield text[: len(text) - held]
            text = text[len(text) - held :]
    if text:
        yield text
