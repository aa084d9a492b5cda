"""Load and set latency with 1, 8 and 32 adapters held, against PEFT in the same run.

    python -m benchmarks.swap

Claims: ``set_adapter`` between resident adapters takes under 100 microseconds however many are held; a load
from a warm page cache takes less than twice what safetensors takes to read the file, however many are held.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from adapter_hub import AdapterHub, Settings
from adapter_hub.base.default import NAME, default_base_folder
from adapter_hub.loading.digest import Digests

from .reporting import median_seconds, write

HELD = (1, 8, 32)
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_adapters(folder: Path, count: int) -> list[Path]:
    """Rank-16 adapters on all linears of the default base, as PEFT writes them (float32, 19.6 MB each)."""
    model = AutoModelForCausalLM.from_pretrained(default_base_folder(), dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS))
    model.peft_config["default"].base_model_name_or_path = NAME
    paths = []
    for k in range(count):
        torch.manual_seed(k)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0, 0.01)
        model.save_pretrained(folder / f"a{k}")
        paths.append(folder / f"a{k}")
    return paths


def load_nf4() -> Any:
    """The default base for PEFT, quantised as the hub quantises it."""
    plan = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    folder = default_base_folder()
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=plan, dtype=torch.bfloat16).eval()


def logits(model: Any) -> torch.Tensor:
    """What both sides are compared on."""
    with torch.inference_mode():
        found: torch.Tensor = model(torch.arange(5, 37)[None]).logits.float()
    return found


def check(paths: list[Path]) -> None:
    """Both sides must agree before either is timed."""
    with AdapterHub.from_pretrained(settings=Settings()) as hub:
        hub.load_adapter(paths[0], "a")
        hub.set_adapter("a")
        ours = logits(hub.model)
        hub.set_adapter(None)
        assert not torch.equal(ours, logits(hub.model)), "the adapter has no effect"
    theirs = logits(PeftModel.from_pretrained(load_nf4(), paths[0]).eval())
    assert torch.equal(ours, theirs), "hub and PEFT disagree"


def time_hub(paths: list[Path], repeats: int) -> dict[int, dict[str, float]]:
    """Load (fetch, read, digest, proof, install) and set, as a user calls them.

    Each load stands beside a read of the same file by safetensors in the same moment, for the machine is not
    equally fast in every one. Read are its bytes (``backend="pread"``): the library's default only maps them.
    ``first_load_ms`` is that of a file which has not been hashed yet.
    """
    figures = {}
    with AdapterHub.from_pretrained(settings=Settings()) as hub:
        for held in HELD:
            for k, path in enumerate(paths[:held]):
                hub.load_adapter(path, f"a{k}")
            extra = paths[HELD[-1]]
            weights = extra / "adapter_model.safetensors"
            reads, loads, first = [], [], []
            for _ in range(repeats):
                reads.append(median_seconds(lambda: load_file(weights, backend="pread"), 1))  # noqa: B023
                loads.append(median_seconds(lambda: hub.load_adapter(extra, "extra"), 1))  # noqa: B023
                hub.remove("extra")
                hub._residents.reader.loader._digests = Digests()
                first.append(median_seconds(lambda: hub.load_adapter(extra, "extra"), 1))  # noqa: B023
                hub.remove("extra")
            turn = iter(range(10**9))
            names = [f"a{k}" for k in range(held)] + [None]
            swap = median_seconds(lambda: hub.set_adapter(names[next(turn) % len(names)]), 2000)  # noqa: B023
            figures[held] = {
                "load_ms": 1e3 * median(loads),
                "first_load_ms": 1e3 * median(first),
                "safetensors_read_ms": 1e3 * median(reads),
                "load_over_read": median(load / read for load, read in zip(loads, reads, strict=True)),
                "set_us": 1e6 * swap,
            }
    return figures


def time_peft(paths: list[Path], repeats: int) -> dict[int, dict[str, float]]:
    """The same two steps with ``load_adapter`` and ``set_adapter`` of PEFT."""
    figures: dict[int, dict[str, float]] = {}
    model = PeftModel.from_pretrained(load_nf4(), paths[0], adapter_name="a0")
    count = 1
    for held in HELD:
        for k in range(count, held):
            model.load_adapter(paths[k], f"a{k}")
        count = held
        extra = paths[HELD[-1]]
        load = median_seconds(
            lambda: model.load_adapter(extra, "extra"),  # noqa: B023
            repeats,
            lambda: model.delete_adapter("extra") if "extra" in model.peft_config else None,
        )
        model.delete_adapter("extra")
        turn = iter(range(10**9))
        swap = median_seconds(lambda: model.set_adapter(f"a{next(turn) % held}"), 20)  # noqa: B023
        figures[held] = {"load_ms": 1e3 * load, "set_us": 1e6 * swap}
    return figures


def main() -> None:
    """Check, time, write."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = make_adapters(Path(scratch), HELD[-1] + 1)
        check(paths)
        hub, peft = time_hub(paths, 30), time_peft(paths, 5)
    write(
        "swap",
        {
            "adapter": {"rank": 16, "sites": 210, "bytes": 19_590_384, "dtype": "float32"},
            "hub": hub,
            "peft": peft,
        },
    )


if __name__ == "__main__":
    main()
