"""Merged weights and tiers: decode rates on each path, times to merge, switch and come back, bytes of each tier.

    python -m benchmarks.memory [turns]

Claims: an adapter that is merged decodes at 1.00 of the rate of an unadapted 16-bit model; a resident adapter takes
its tensors and 5 %; a switch between resident adapters, merged or not, takes under 100 microseconds.
Sides take turns step by step, so that a slow moment of the machine meets all of them; figures are medians, ratios
are medians of the ratio within one turn.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from adapter_hub import AdapterHub, Settings
from adapter_hub.base.default import default_base_folder
from adapter_hub.memory import process_bytes

from .mixed import Names, Side, make_adapters, relative
from .reporting import median_seconds, write
from .swap import TARGETS
from .turns import prompts, rates, take_turns

ROWS = (1, 8, 32)
HELD = 4
PLAIN, QUANTISED, FACTORS, MERGED = "plain_16_bit", "plain_4_bit", "factors", "merged"


def load_plain() -> Any:
    """The default base in bfloat16, as transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(default_base_folder(), dtype=torch.bfloat16).eval()


def side_of(model: Any) -> Side:
    """A model as it is; it knows no adapters."""

    def forward(_: Names, inputs: dict[str, Any]) -> Tensor:
        logits: Tensor = model(**inputs).logits
        return logits

    return Side(model, forward)


def check(hub: AdapterHub, adapter: Path) -> dict[str, Any]:
    """The merged path must give what a plain 16-bit model of the same weights gives; the factors are near it."""
    inputs = {"input_ids": prompts(1)}
    with torch.inference_mode():
        ours = Side.of_hub(hub)
        factors, bare = ours.forward(["a0"], inputs), ours.forward([None], inputs)
        report = hub.merge_report("a0")
        hub.merge("a0")
        merged = ours.forward(["a0"], inputs)
        dense = load_plain()
        tensors, scale = load_file(adapter / "adapter_model.safetensors"), 2.0  # alpha 32 over rank 16
        for path, module in dense.named_modules():
            name = f"base_model.model.{path}.lora_"
            if f"{name}A.weight" in tensors:
                A, B = tensors[f"{name}A.weight"], tensors[f"{name}B.weight"]
                module.weight.copy_(torch.addmm(hub.base.dense_weight(path), scale * B, A))
        hub.unmerge("a0")
        found = {
            "merged_vs_a_plain_model_of_these_weights": relative(merged, dense(**inputs).logits),
            "merged_vs_factors": relative(merged, factors),
            "effect_of_the_adapter": relative(factors, bare),
            "on_sample_prompts": report.as_dict(),
        }
    assert found["merged_vs_a_plain_model_of_these_weights"] == 0, found
    assert found["merged_vs_factors"] < 0.05 < found["effect_of_the_adapter"], found
    return found


def time_rates(hub: AdapterHub, turns: int) -> dict[str, Any]:
    """Decoding, and prefill of 32 tokens a row, with adapter "a0" beside the base and "a1" merged."""
    plain = side_of(load_plain())
    with AdapterHub.from_pretrained(settings=Settings()) as bare:
        quantised, ours = side_of(bare.model), Side.of_hub(hub)
        figures: dict[str, Any] = {"decode": {}, "prefill": {}}
        for kind, per_row in (("decode", 1), ("prefill", 32)):
            for rows in ROWS:
                of = {
                    PLAIN: (plain, None),
                    MERGED: (ours, "a1"),
                    FACTORS: (ours, "a0"),
                    QUANTISED: (quantised, None),
                }
                sides = {
                    name: (side.decoder if kind == "decode" else side.prefiller)([adapter] * rows)
                    for name, (side, adapter) in of.items()
                }
                count = turns if kind == "decode" or rows == 1 else max(3, turns // 8)
                found = figures[kind][f"{rows} rows"] = rates(take_turns(sides, count), rows * per_row)
                print(kind, rows, {name: round(figure, 3) for name, figure in found.items()}, flush=True)
    return figures


def time_switches(hub: AdapterHub, repeats: int = 3000) -> dict[str, float]:
    """Microseconds of ``set_adapter``: among adapters beside the base, and among merged ones."""
    figures = {}
    for kind in (FACTORS, MERGED):
        names: Names = ["a2", "a3", None]
        if kind == MERGED:
            hub.merge("a2")
            hub.merge("a3")
        turn = iter(range(10**9))
        figures[kind] = 1e6 * median_seconds(lambda: hub.set_adapter(names[next(turn) % 3]), repeats)  # noqa: B023
        names[:] = ["a2", "a0"]
        mixed = median_seconds(lambda: hub.set_adapter(names[next(turn) % 2]), repeats)  # noqa: B023
        figures[f"{kind}_to_factors_and_back"] = 1e6 * mixed
    hub.set_adapter(None)
    return figures


def time_moves(hub: AdapterHub, repeats: int) -> dict[str, float]:
    """Milliseconds to merge, to come from the files, and to come from host memory."""
    figures: dict[str, list[float]] = {"merge": [], "load_from_files": [], "load_from_host": []}
    for k in range(repeats):
        name = f"a{k % HELD}"
        hub.unmerge(name)
        figures["merge"].append(median_seconds(lambda: hub.merge(name), 1))  # noqa: B023
        hub.unload(name)
        figures["load_from_files"].append(median_seconds(lambda: hub.load_adapter(name), 1))  # noqa: B023
        hub.unload(name, keep_on_host=True)
        figures["load_from_host"].append(median_seconds(lambda: hub.load_adapter(name), 1))  # noqa: B023
    return {f"{name}_ms": 1e3 * median(found) for name, found in figures.items()}


def count_bytes(hub: AdapterHub, paths: list[Path]) -> dict[str, Any]:
    """Bytes of resident and merged adapters, as the hub states them and as the process grows by them."""
    hub.unload()
    growth = {}
    before = process_bytes()
    for k in range(HELD):
        hub.load_adapter(f"a{k}")
    growth["resident"] = process_bytes() - before
    tensors = sum(
        sum(tensor.nbytes for tensor in load_file(path / "adapter_model.safetensors").values()) for path in paths
    )
    hub.unload()
    for k in range(HELD):
        hub.load_adapter(f"a{k}")
    before = process_bytes()
    hub.merge("a0")
    growth["merged"] = process_bytes() - before
    memory = hub.memory()
    return {
        "tensors_in_files": tensors,
        "resident": sum(memory.adapters.values()),
        "resident_over_tensors": sum(memory.adapters.values()) / tensors,
        "process_grew_over_tensors": growth["resident"] / tensors,
        "merged": memory.merged["a0@1"],
        "process_grew_over_merged": growth["merged"] / memory.merged["a0@1"],
        "tiers": [tier.as_dict() for tier in memory.tiers],
    }


def main() -> None:
    """Check, time, write."""
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    settings = Settings()
    with tempfile.TemporaryDirectory() as scratch, AdapterHub.from_pretrained(settings=settings) as hub:
        paths = make_adapters(Path(scratch), hub.model, TARGETS, HELD)
        for k in range(HELD):
            hub.load_adapter(paths[k], f"a{k}")
        figures: dict[str, Any] = {"adapters": {"rank": 16, "sites": 210, "dtype": "float32"}}
        figures["check"] = check(hub, paths[0])
        hub.merge("a1")
        figures |= time_rates(hub, turns)
        figures["switch_us"] = time_switches(hub)
        figures["moves"] = time_moves(hub, 12)
        figures["bytes"] = count_bytes(hub, paths)
    write("memory", figures)


if __name__ == "__main__":
    main()
