"""Batches of several adapters: decode and prefill against the plain base, PEFT, and one adapter at a time.

    python -m benchmarks.mixed [turns [rows,adapters ...]]

Claims: 32 rows with 32 distinct rank-16 adapters decode at 0.80 of the base's rate where they change all linears
and at 0.90 where they change q and v; whole answers come four times as fast as PEFT's; adapters that nobody uses cost
under 2 %. Single steps are forwards of ``hub.model``, in transformers' own loop; whole answers are ``generate`` as each
offers it: the hub's, which runs in its engine, PEFT's, and that of the plain base.
Sides take turns step by step, or answer by answer, so that a slow moment of the machine meets all of them; figures
are medians, ratios are medians of the ratio within one turn.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor

from adapter_hub import AdapterHub, Settings
from adapter_hub.base.default import NAME

from .swap import TARGETS, load_nf4

ADAPTERS = 32
CASES = ((1, 1), (8, 1), (8, 8), (32, 1), (32, 8), (32, 32))
CONTEXT, PROMPT, ANSWER = 128, 32, 48
Names = list[str | None]


def make_adapters(folder: Path, model: Any, targets: list[str], count: int = ADAPTERS) -> list[Path]:
    """Rank-16 adapters as PEFT writes them, in float32, on these linears of the default base."""
    paths = []
    for k in range(count):
        generator, tensors = torch.Generator().manual_seed(k), {}
        for path, module in model.named_modules():
            if path.rpartition(".")[2] in targets:
                name = f"base_model.model.{path}"
                tensors[f"{name}.lora_A.weight"] = torch.randn(16, module.in_features, generator=generator) * 0.02
                tensors[f"{name}.lora_B.weight"] = torch.randn(module.out_features, 16, generator=generator) * 0.02
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": NAME}
        paths.append(folder / f"a{k}")
        paths[-1].mkdir(parents=True)
        save_file(tensors, paths[-1] / "adapter_model.safetensors")
        settings = {"r": 16, "lora_alpha": 32, "target_modules": targets, "bias": "none"}
        (paths[-1] / "adapter_config.json").write_text(json.dumps({**config, **settings}))
    return paths


def assign(rows: int, distinct: int) -> list[str]:
    """Adapters of the rows, neighbours with different ones."""
    return [f"a{k % distinct}" for k in range(rows)]


class Side:
    """One way to run rows: a model, and what to call it in."""

    def __init__(self, model: Any, forward: Callable[[Names, dict[str, Any]], Tensor]) -> None:
        self.model = model
        self.forward = forward

    @classmethod
    def of_hub(cls, hub: AdapterHub) -> Side:
        """Rows under ``hub.rows``."""

        def forward(names: Names, inputs: dict[str, Any]) -> Tensor:
            with hub.rows(names):
                logits: Tensor = hub.model(**inputs).logits
            return logits

        return cls(hub.model, forward)

    @classmethod
    def of_peft(cls, model: Any) -> Side:
        """Rows under ``adapter_names``."""

        def forward(names: Names, inputs: dict[str, Any]) -> Tensor:
            chosen = ["__base__" if name is None else name for name in names]
            logits: Tensor = model(**inputs, adapter_names=chosen).logits
            return logits

        return cls(model, forward)

    def decoder(self, names: Names) -> Callable[[], float]:
        """Seconds of one step of rows that have a context already, the same for all, so that it is quickly made."""
        with torch.inference_mode():
            base = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
            past = base(torch.arange(7, 7 + CONTEXT)[None], use_cache=True, logits_to_keep=1).past_key_values
            past.batch_repeat_interleave(len(names))
        inputs = {"input_ids": torch.full((len(names), 1), 42), "past_key_values": past, "use_cache": True}

        def step() -> float:
            with torch.inference_mode():
                start = time.perf_counter()
                self.forward(names, inputs)
                seconds = time.perf_counter() - start
                past.crop(-1)
            return seconds

        return step

    def prefiller(self, names: Names) -> Callable[[], float]:
        """Seconds of one prefill of all rows."""
        inputs = {"input_ids": prompts(len(names)), "logits_to_keep": 1, "use_cache": False}

        def run() -> float:
            with torch.inference_mode():
                start = time.perf_counter()
                self.forward(names, inputs)
                return time.perf_counter() - start

        return run


def prompts(rows: int, seed: int = 1) -> Tensor:
    """Token ids [rows, PROMPT]."""
    return torch.randint(100, 20000, (rows, PROMPT), generator=torch.Generator().manual_seed(seed))


def relative(one: Tensor, other: Tensor) -> float:
    """Largest difference of logits on the scale of the largest logit."""
    return float((one.float() - other.float()).abs().max() / other.float().abs().max())


def check(ours: Side, theirs: Side) -> dict[str, float]:
    """A mixed batch against each of its rows alone and against PEFT's, before anything is timed."""
    names: Names = [*assign(7, 7), None]
    inputs = {"input_ids": prompts(len(names)), "logits_to_keep": 1}
    with torch.inference_mode():
        mixed = ours.forward(names, inputs)
        bare = ours.forward([None] * len(names), inputs)
        uniform = [ours.forward([name] * len(names), inputs)[k] for k, name in enumerate(names)]
        found = {
            "row_in_a_mixed_batch_vs_a_batch_of_its_adapter": relative(mixed, torch.stack(uniform)),
            "hub_vs_peft": relative(mixed, theirs.forward(names, inputs)),
            "effect_of_adapters": relative(mixed, bare),
        }
    assert found["row_in_a_mixed_batch_vs_a_batch_of_its_adapter"] < 2e-2, found
    assert found["hub_vs_peft"] < 2e-2 < found["effect_of_adapters"], found
    return found


def one_at_a_time(make: Callable[[Names], Callable[[], float]], names: Names) -> Callable[[], float]:
    """The rows of each adapter as a batch of their own, one after the other."""
    runs = [make([name] * names.count(name)) for name in dict.fromkeys(names)]
    return lambda: sum(run() for run in runs)


def take_turns(sides: dict[str, Callable[[], float]], turns: int, tokens: int) -> dict[str, float]:
    """Tokens per second of each side, and of all but ``base`` the rate in terms of the base's."""
    for run in sides.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, run in sides.items():
            times[name].append(run())
    figures = {f"{name}_tokens_per_second": tokens / median(found) for name, found in times.items()}
    for name, found in times.items():
        if name != "base":
            pairs = zip(times["base"], found, strict=True)
            figures[f"{name}_over_base"] = median(base / own for base, own in pairs)
    return figures


def time_cases(ours: Side, theirs: Side, turns: int, cases: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Decode and prefill of each case."""
    figures: dict[str, Any] = {"decode": {}, "prefill": {}}
    for rows, distinct in cases:
        names: Names = [*assign(rows, distinct)]
        for kind, tokens in (("decode", rows), ("prefill", rows * PROMPT)):
            ways = {"decode": (ours.decoder, theirs.decoder), "prefill": (ours.prefiller, theirs.prefiller)}[kind]
            sides = {"base": ways[0]([None] * rows), "hub": ways[0](names), "peft": ways[1](names)}
            if distinct > 1:
                sides["one_at_a_time"] = one_at_a_time(ways[0], names)
            count = turns if kind == "decode" else max(2, turns // 4)
            case = f"{rows} rows, {distinct} adapters"
            figures[kind][case] = take_turns(sides, count, tokens)
            print(kind, case, {name: round(figure, 3) for name, figure in figures[kind][case].items()}, flush=True)
    return figures


class Answers:
    """Whole answers of ``ANSWER`` tokens; each turn asks something new, so that no cache of prompts helps."""

    def __init__(self) -> None:
        self._first: dict[str, list[int]] = {}

    def of_generate(self, side: str, model: Any, names: Names | None) -> Callable[[], float]:
        """One batch of transformers' own loop; ``names`` goes to PEFT."""
        chosen = {} if names is None else {"adapter_names": names}

        def run(ids: Tensor) -> list[int]:
            length = {"max_new_tokens": ANSWER, "min_new_tokens": ANSWER, "do_sample": False}
            with torch.inference_mode():
                found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **length, **chosen)
            return [int(row) for row in found[:, PROMPT]]

        return self._timed(side, run)

    def of_hub(self, side: str, hub: AdapterHub, names: Names) -> Callable[[], float]:
        """One call of the hub."""

        def run(ids: Tensor) -> list[int]:
            done = hub.generate(ids.tolist(), adapters=names, max_new_tokens=ANSWER, ignore_eos=True)
            assert all(len(completion.token_ids) == ANSWER for completion in done)
            return [completion.token_ids[0] for completion in done]

        return self._timed(side, run)

    def agree(self, one: str, other: str) -> int:
        """Rows whose first tokens were the same in the last turn of both."""
        return sum(a == b for a, b in zip(self._first[one], self._first[other], strict=True))

    def _timed(self, side: str, run: Callable[[Tensor], list[int]]) -> Callable[[], float]:
        turns = itertools.count(100)

        def timed() -> float:
            ids = prompts(ADAPTERS, next(turns))
            start = time.perf_counter()
            self._first[side] = run(ids)
            return time.perf_counter() - start

        return timed


def time_answers(hub: AdapterHub, bare: AdapterHub, peft: Any, turns: int) -> dict[str, float]:
    """32 whole answers: of the hub and PEFT with 32 adapters, of the base in transformers' loop and in the engine."""
    answers, names = Answers(), assign(ADAPTERS, ADAPTERS)
    sides = {
        "base": answers.of_generate("base", bare.model, None),
        "hub_base": answers.of_hub("hub_base", hub, [None] * ADAPTERS),
        "hub": answers.of_hub("hub", hub, [*names]),
    }
    if peft is not None:
        sides["peft"] = answers.of_generate("peft", peft, [*names])
    for run in sides.values():
        run()
    # In bfloat16 another order of sums may turn the first token where two are as good; few are.
    agree = {"hub_base_and_base": answers.agree("hub_base", "base")}
    if peft is not None:
        agree["hub_and_peft"] = answers.agree("hub", "peft")
    assert min(agree.values()) >= 24, agree
    figures = take_turns(sides, turns, ADAPTERS * ANSWER)
    if peft is not None:
        figures["hub_over_peft"] = figures["hub_tokens_per_second"] / figures["peft_tokens_per_second"]
    return figures | {f"first_tokens_that_agree, {pair}": count for pair, count in agree.items()}


def main() -> None:
    """Check, time, write."""
    from .reporting import write

    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    cases = [(int(rows), int(distinct)) for rows, distinct in (arg.split(",") for arg in sys.argv[2:])] or CASES
    rows = ADAPTERS
    figures: dict[str, Any] = {"adapters": {"count": ADAPTERS, "rank": 16, "dtype": "float32", "context": CONTEXT}}
    with tempfile.TemporaryDirectory() as scratch, AdapterHub.from_pretrained(settings=Settings()) as bare:
        for kind, targets in (("q and v", ["q_proj", "v_proj"]), ("all linears", TARGETS)):
            paths = make_adapters(Path(scratch) / kind, bare.model, targets)
            with AdapterHub.from_pretrained(settings=Settings()) as hub:
                for k, path in enumerate(paths):
                    hub.load_adapter(path, f"a{k}")
                ours, nobody = Side.of_hub(hub), [None] * rows
                idle = {"base": Side.of_hub(bare).decoder([*nobody]), "idle": ours.decoder([*nobody])}
                found = figures[kind] = {"idle": take_turns(idle, 5 * turns, rows)}
                peft = None
                if kind == "q and v":
                    sides = {"base": ours.decoder([*nobody]), "hub": ours.decoder([*assign(rows, rows)])}
                    found["decode"] = {f"{rows} rows, {rows} adapters": take_turns(sides, 2 * turns, rows)}
                else:
                    peft = PeftModel.from_pretrained(load_nf4(), paths[0], adapter_name="a0").eval()
                    for k, path in enumerate(paths[1:], start=1):
                        peft.load_adapter(path, f"a{k}")
                    theirs = Side.of_peft(peft)
                    found["check"] = check(ours, theirs)
                    found |= time_cases(ours, theirs, turns, cases)
                    found["memory"] = {name: getattr(hub.memory(), name) for name in ("stacked", "shared")}
                found["answers"] = time_answers(hub, bare, peft, max(2, turns // 3))
                print(kind, found, flush=True)
    write("mixed", figures)


if __name__ == "__main__":
    main()
