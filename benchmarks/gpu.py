"""For any CUDA machine: every path against the oracle, then an 8B-shaped random model in NF4 beside PEFT.

    python -m benchmarks.gpu [layers | small]

First correctness (eager, Triton, CUDA graphs) on a small model in float32. Then decode steps of 1, 8, 32 and 128 rows
with as many distinct rank-16 adapters on all linears: the bare base, the hub and PEFT with bitsandbytes, in turns, as
plain forwards; and the engine with and without captured graphs. Each figure comes with its distance to the floor: the
bytes that the step has to read, at the rate at which this device copies. ``small`` runs all of it on a model of
no size, on any device, to see that it runs; its figures mean nothing and are not written.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import bitsandbytes as bnb
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig

from adapter_hub import AdapterHub, Settings
from adapter_hub.base import BaseModel
from adapter_hub.engine import Row, Sampling, Voice
from adapter_hub.store import AdapterInfo
from adapter_hub.testing import save_tiny_base, tiny_tokenizer
from adapter_hub.updates import LinearUpdate

from .serving import make_adapters

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
RANK, CONTEXT, NEW = 16, 128, 48
ROWS = (1, 8, 32, 128)
PEFT_ROWS = (1, 8, 32)
LLAMA_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
SMALL = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def check(new: int = 24) -> dict[str, float]:
    """Largest difference of a logit, float32: each path's mixed batch from each row alone; and texts of the engine."""
    found: dict[str, float] = {}
    names: list[str | None] = ["a0", None, "a1", "a2", "a2", "a3", None, "a0"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_tiny_base(Path(scratch) / "base")
        model = AutoModelForCausalLM.from_pretrained(folder)
        paths = make_adapters(Path(scratch), model, 4)
        ids = torch.randint(3, 90, (len(names), 12), device=DEVICE)
        texts = {}
        paths_of_rows = [("reference", False), ("torch", False), ("triton", False), ("triton", True)]
        for path, graphs in paths_of_rows[: 4 if DEVICE.type == "cuda" else 3]:
            settings = Settings(mixed_path=path, cuda_graphs=graphs, allow_base_mismatch=True)
            options: dict[str, Any] = {"quantization": None, "dtype": "float32", "device": DEVICE}
            with AdapterHub.from_pretrained(folder, settings=settings, **options) as hub:
                for k, adapter in enumerate(paths):
                    hub.load_adapter(adapter, f"a{k}")
                with torch.inference_mode():
                    with hub.rows(names):
                        mixed = hub.model(ids).logits
                    for k, name in enumerate(names):
                        with hub.rows([name]):
                            alone = hub.model(ids[k : k + 1]).logits
                        worst = float((mixed[k] - alone[0]).abs().max())
                        found[path] = max(found.get(path, 0.0), worst)
                prompts = [f"prompt number {k}" for k in range(len(names))]
                done = hub.generate(prompts, adapters=names, max_new_tokens=new)
                texts[path, graphs] = [completion.token_ids for completion in done]
                if graphs:
                    captured = hub._front.engine._loop.batch._graphs  # type: ignore[union-attr]
                    found["graphs captured"] = len(captured._graphs)
                    assert captured._graphs, "no graph was captured"
                hub.merge("a1")
                with hub.rows(["a1"] * 2), torch.inference_mode():
                    merged = hub.model(ids[2:4]).logits[0]
                found["merged"] = max(found.get("merged", 0.0), float((merged - mixed[2]).abs().max()))
        assert all(worst < 1e-3 for path, worst in found.items() if path != "graphs captured"), found
        assert len(set(map(str, texts.values()))) == 1, "the engine's texts differ between paths"
    return found


def random_model(layers: int, shape: dict[str, int]) -> Any:
    """A random Llama of this shape, its linears in NF4 with double quantisation."""
    config = LlamaConfig(**shape, num_hidden_layers=layers, max_position_embeddings=8192, tie_word_embeddings=False)
    torch.manual_seed(0)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.to_empty(device=DEVICE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0) if parameter.dim() == 1 else parameter.normal_(0.0, 0.02)
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config).to(DEVICE)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name != "lm_head":
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, _quantised(module))
    return model.eval().requires_grad_(False)


def _quantised(linear: nn.Linear) -> Any:
    made = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=False,
        compute_dtype=torch.bfloat16,
        compress_statistics=True,
        quant_type="nf4",
    )
    weight = linear.weight.data.cpu()
    made.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True)
    return made.to(DEVICE)


def install(hub: AdapterHub, count: int) -> int:
    """Random rank-16 adapters in slots, as if loaded; gives the bytes of one."""
    residents = hub._residents
    info = AdapterInfo(
        name="", digest="", source="drawn", revision=None, folder="", format="", variant="", sites=0, ranks=(RANK,),
        bytes=0, base_name=None, base_fingerprint="", tags=(), warnings=(), registered_at="",
    )  # fmt: skip
    sites = [(path, module) for path, module in hub.model.named_modules() if path.rpartition(".")[2] in LINEARS]
    for k in range(count):
        updates = {}
        for path, module in sites:
            a = torch.randn(RANK, module.in_features, device=DEVICE, dtype=torch.bfloat16) * 0.01
            b = torch.randn(module.out_features, RANK, device=DEVICE, dtype=torch.bfloat16) * 0.01
            updates[path] = LinearUpdate(A=a, B=b)
        known = residents.registry.add(replace(info, name=f"a{k}", digest=f"{k + 1:064x}"))
        slot = residents.places.slots.reserve()
        residents.places.bank.install(slot, updates)
        residents.places.merged.attach(slot, known.digest)
        residents.places.slots.publish(slot, known.key, known.digest)
        residents.places.voices[known.key] = residents.voice(None)
    return residents.places.bank.bytes(1)


def copy_rate(num_bytes: int = 2**31) -> float:
    """Bytes a second that this device reads while it copies."""
    source = torch.empty(num_bytes, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    times = [timed(lambda: target.copy_(source)) for _ in range(6)]
    return 2 * source.nbytes / median(times[1:])


def timed(run: Callable[[], Any]) -> float:
    """Seconds until the device has done it."""
    wait = torch.cuda.synchronize if DEVICE.type == "cuda" else bool
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def decoder(model: Any, forward: Callable[[dict[str, Any]], Tensor], rows: int) -> Callable[[], float]:
    """Seconds of one plain decode step of rows that have a context."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    with torch.inference_mode():
        past = base(torch.arange(7, 7 + CONTEXT, device=DEVICE)[None], use_cache=True, logits_to_keep=1).past_key_values
        past.batch_repeat_interleave(rows)
    inputs = {"input_ids": torch.full((rows, 1), 42, device=DEVICE), "past_key_values": past, "use_cache": True}

    def step() -> float:
        with torch.inference_mode():
            seconds = timed(lambda: forward(inputs))
            past.crop(-1)
        return seconds

    return step


def plain_forwards(hub: AdapterHub, peft: Any, rows: int, turns: int) -> dict[str, float]:
    """Milliseconds of a step: the base, the hub with distinct adapters, and PEFT with them; in turns."""
    names: list[str | None] = [f"a{k}" for k in range(rows)]

    def ours(chosen: Sequence[str | None]) -> Callable[[dict[str, Any]], Tensor]:
        def forward(inputs: dict[str, Any]) -> Tensor:
            with hub.rows(chosen):
                return hub.model(**inputs).logits  # type: ignore[no-any-return]

        return forward

    sides = {
        "base": decoder(hub.model, ours([None] * rows), rows),
        "hub": decoder(hub.model, ours(names), rows),
    }
    if peft is not None and rows in PEFT_ROWS:
        sides["peft"] = decoder(peft, lambda inputs: peft(**inputs, adapter_names=names).logits, rows)
    times: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(turns + 1):
        for side, step in sides.items():
            seconds = step()
            if turn:
                times[side].append(seconds)
    return {f"{side}_ms": 1000 * median(found) for side, found in times.items()}


def engine_steps(hub: AdapterHub, names: Sequence[str | None], new: int) -> float:
    """Milliseconds a step of the engine while all of these requests decode."""
    voice = hub._residents.voice(None)
    endless = Voice(voice.tokenizer, None, frozenset(), voice.vocabulary)
    engine = hub._front.engine
    assert engine is not None
    best = []
    for turn in range(3):
        rows = [Row([5 + turn, *range(10, 9 + CONTEXT)], endless, name, name) for name in names]
        stamps: list[float] = []
        running = [engine.submit(row, Sampling(max_new_tokens=new), is_streamed=False) for row in rows]
        while not all(generation.is_done for generation in running):
            shortest = min(len(generation.generated) for generation in running)
            if shortest >= 4 and not stamps:
                stamps.append(time.perf_counter())
                begun = hub.load().steps
            time.sleep(0.0005)
        if stamps:
            best.append((time.perf_counter() - stamps[0]) / max(1, hub.load().steps - begun))
    return 1000 * median(best[1:] or best)


def measure(layers: int, shape: dict[str, int], rows_of: Sequence[int], new: int, copied: int) -> dict[str, Any]:
    """All figures of a model of this shape: rows as in ``ROWS``, ``new`` tokens of each request of the engine."""
    rate = copy_rate(copied)
    figures: dict[str, Any] = {"copy_bytes_per_second": rate, "decode": {str(rows): {} for rows in rows_of}}
    model, lora = random_model(layers, shape), LoraConfig(r=RANK, target_modules=LINEARS)
    peft_model = get_peft_model(random_model(layers, shape), lora, adapter_name="a0").eval()
    for k in range(1, max(set(PEFT_ROWS) & set(rows_of))):
        peft_model.add_adapter(f"a{k}", LoraConfig(r=RANK, target_modules=LINEARS))
    for graphs in (False, True):
        settings = Settings(max_rows=max(rows_of), cuda_graphs=graphs, cache_bytes=min(4 * copied, 8 * 1024**3))
        base = BaseModel(model, tiny_tokenizer(), name="random", compute_dtype=torch.bfloat16)
        with AdapterHub(base, settings=settings) as hub:
            one = install(hub, max(rows_of))
            weights = hub.report().weight_bytes + hub.report().constant_bytes - model.model.embed_tokens.weight.nbytes
            for rows in rows_of:
                found = figures["decode"][str(rows)]
                names = [f"a{k}" for k in range(rows)]
                if not graphs:
                    found |= plain_forwards(hub, peft_model, rows, 8)
                    found["base_floor_ms"] = 1000 * weights / rate
                    found["hub_floor_ms"] = 1000 * (weights + rows * one) / rate
                kind = "engine with graphs" if graphs else "engine"
                found[f"{kind}, base, ms"] = engine_steps(hub, [None] * rows, new)
                found[f"{kind}, adapters, ms"] = engine_steps(hub, names, new)
                print(rows, found, flush=True)
        peft_model = None
        gc.collect()
        torch.cuda.empty_cache()
    return figures


def main() -> None:
    """Check, time, write."""
    from .reporting import write

    figures: dict[str, Any] = {"check": check()}
    print(figures, flush=True)
    if sys.argv[1:] == ["small"]:
        measure(2, SMALL, ROWS[:2], 12, 2**24)
        return
    layers = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    figures["model"] = {"layers": layers, "rank": RANK, "context": CONTEXT}
    figures |= measure(layers, LLAMA_8B, ROWS, NEW, 2**31)
    write("gpu", figures)


if __name__ == "__main__":
    main()
