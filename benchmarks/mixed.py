"""Batches of several adapters: decode and prefill against the plain base, PEFT, and one adapter at a time.

    python -m benchmarks.mixed [turns [rows,adapters ...]]

Claims: 32 rows with 32 distinct rank-16 adapters decode at 0.80 of the plain base's rate where they change all linears
and at 0.90 where they change q and v, four times as fast as PEFT's; adapters that nobody uses cost under 2 %.
"decode" and "prefill" are single forwards of ``hub.model``, as transformers' own loop calls it. Answers are
``generate`` as each offers it: the hub's, which runs in its engine, PEFT's, and that of the plain base.
Sides take turns step by step, or answer by answer; figures are medians, ratios medians of the ratio within one turn.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor

from adapter_hub import AdapterHub, Settings
from adapter_hub.base.default import NAME

from .answers import time_answers
from .swap import TARGETS, load_nf4
from .turns import PROMPT, assign, prompts, rates, take_turns

ADAPTERS = 32
CASES = ((1, 1), (8, 1), (8, 8), (32, 1), (32, 8), (32, 32))
CONTEXT = 128
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


def time_cases(ours: Side, theirs: Side, turns: int, cases: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Decode and prefill of each case."""
    figures: dict[str, Any] = {"decode": {}, "prefill": {}}
    for rows, distinct in cases:
        names: Names = [*assign(rows, distinct)]
        for kind, tokens in (("decode", rows), ("prefill", rows * PROMPT)):
            ways = {"decode": (ours.decoder, theirs.decoder), "prefill": (ours.prefiller, theirs.prefiller)}[kind]
            sides = {"base": ways[0]([None] * rows), "peft": ways[1](names)}
            if distinct > 1:
                sides["one_at_a_time"] = one_at_a_time(ways[0], names)
            sides["hub"] = ways[0](names)
            count = turns * (3 if distinct == ADAPTERS else 1) if kind == "decode" else max(3, turns // 3)
            case = f"{rows} rows, {distinct} adapters"
            figures[kind][case] = rates(take_turns(sides, count), tokens)
            print(kind, case, {name: round(figure, 3) for name, figure in figures[kind][case].items()}, flush=True)
    return figures


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
                found = figures[kind] = {"idle": rates(take_turns(idle, 5 * turns), rows)}
                peft = None
                if kind == "q and v":
                    sides = {"base": ours.decoder([*nobody]), "hub": ours.decoder([*assign(rows, rows)])}
                    steps = rates(take_turns(sides, 3 * turns), rows)
                    found["decode"] = {f"{rows} rows, {rows} adapters": steps}
                else:
                    peft = PeftModel.from_pretrained(load_nf4(), paths[0], adapter_name="a0").eval()
                    for k, path in enumerate(paths[1:], start=1):
                        peft.load_adapter(path, f"a{k}")
                    theirs = Side.of_peft(peft)
                    found["check"] = check(ours, theirs)
                    found |= time_cases(ours, theirs, turns, cases)
                    found["memory"] = {name: getattr(hub.memory(), name) for name in ("stacked", "shared")}
                found |= time_answers(hub, bare, peft, max(3, turns // 2))
                print(kind, found, flush=True)
    write("mixed", figures)


if __name__ == "__main__":
    main()
