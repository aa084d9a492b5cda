"""Whole answers of 32 rows as each offers them: ``generate`` of the hub, of PEFT and of the plain base."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from adapter_hub import AdapterHub

from .turns import PROMPT, assign, prompts, rates, take_turns

ROWS, SHORT, LONG = 32, 8, 48
Run = Callable[[Tensor, int], Sequence[int]]  # from prompts and a number of tokens to the first token of each row


def time_answers(hub: AdapterHub, bare: AdapterHub, peft: Any, turns: int) -> dict[str, dict[str, float]]:
    """32 answers by the hub and PEFT with an adapter each, by the base in transformers' loop and in the engine.

    Each turn asks something new, so that no cache of prompts helps. A long answer less a short one is decoding alone.

    Args:
        hub: with the adapters a0 to a31.
        bare: without any.
        peft: with the same adapters, or None.
        turns: how often each side answers.

    Returns:
        Rates of "answers", prompts and all, and of "decoding in answers".
    """
    names = assign(ROWS, ROWS)
    runs: dict[str, Run] = {"base": in_generate(bare.model), "hub_base": in_hub(hub, [None] * ROWS)}
    if peft is not None:
        runs["peft"] = in_generate(peft, adapter_names=names)
    runs["hub"] = in_hub(hub, [*names])
    found = check(runs)
    sides = {(name, length): _timed(run, length) for name, run in runs.items() for length in (SHORT, LONG)}
    taken = take_turns({f"{name} {length}": run for (name, length), run in sides.items()}, turns)
    whole = {name: taken[f"{name} {LONG}"] for name in runs}
    decoding = {
        name: [long - short for long, short in zip(whole[name], taken[f"{name} {SHORT}"], strict=True)] for name in runs
    }
    return {
        "answers": found | rates(whole, ROWS * LONG),
        "decoding in answers": rates(decoding, ROWS * (LONG - SHORT)),
    }


def in_generate(model: Any, **chosen: Any) -> Run:
    """One batch of transformers' own loop; ``chosen`` goes to PEFT."""

    def run(ids: Tensor, length: int) -> list[int]:
        settings = {"max_new_tokens": length, "min_new_tokens": length, "do_sample": False, **chosen}
        with torch.inference_mode():
            found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
        assert found.shape == (ROWS, PROMPT + length)
        return [int(row) for row in found[:, PROMPT]]

    return run


def in_hub(hub: AdapterHub, names: list[str | None]) -> Run:
    """One call of the hub."""

    def run(ids: Tensor, length: int) -> list[int]:
        done = hub.generate(ids.tolist(), adapters=names, max_new_tokens=length, ignore_eos=True)
        assert all(len(completion.token_ids) == length for completion in done)
        return [completion.token_ids[0] for completion in done]

    return run


def check(runs: dict[str, Run]) -> dict[str, float]:
    """Rows whose first tokens agree, before anything is timed: of the base in both loops, of the hub and PEFT.

    In bfloat16 another order of sums may turn the first token where two are as good; few are.
    """
    ids = prompts(ROWS, 99)
    first = {name: run(ids, SHORT) for name, run in runs.items()}
    pairs = [("hub_base", "base"), ("hub", "peft")]
    agree = {
        f"first_tokens_that_agree, {one} and {other}": float(sum(map(int.__eq__, first[one], first[other])))
        for one, other in pairs
        if one in first and other in first
    }
    assert min(agree.values()) >= 0.75 * ROWS, agree
    return agree


def _timed(run: Run, length: int) -> Callable[[], float]:
    turns = itertools.count(100 * length)

    def timed() -> float:
        ids = prompts(ROWS, next(turns))
        start = time.perf_counter()
        run(ids, length)
        return time.perf_counter() - start

    return timed
