"""Continuous batching on the default base: Poisson arrivals over many adapters, beside the bare base.

    python -m benchmarks.serving [requests]

Claims: 32 requests decode no slower together than transformers' own ``generate`` decodes them, ahead of it where
they are ragged; a request costs the same with 10 or 10,000 adapters registered. Reported beside the same load on
the bare base: tokens per second, time to first token, time per token, adapters brought and hits, for uniform and
Zipf popularity over 4, 64 and 512 adapters with 16 slots.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

import torch
from safetensors.torch import save_file

from adapter_hub import AdapterHub, Settings
from adapter_hub.base.default import NAME
from adapter_hub.engine import Row, Sampling, run_batch

SLOTS = 16
TARGETS = ("q_proj", "v_proj")
WORDS = "the a of to model adapter writes reads token query answer list table user order name value time".split()


def make_adapters(folder: Path, model: Any, count: int, rank: int = 8) -> list[Path]:
    """Rank-8 adapters on q and v as PEFT writes them, in bfloat16."""
    sites = [(p, m) for p, m in model.named_modules() if p.rpartition(".")[2] in TARGETS]
    paths = []
    for k in range(count):
        generator, tensors = torch.Generator().manual_seed(k), {}
        for path, module in sites:
            name = f"base_model.model.{path}"
            a = torch.randn(rank, module.in_features, generator=generator) * 0.05
            b = torch.randn(module.out_features, rank, generator=generator) * 0.05
            tensors |= {f"{name}.lora_A.weight": a.bfloat16(), f"{name}.lora_B.weight": b.bfloat16()}
        paths.append(folder / f"a{k}")
        paths[-1].mkdir(parents=True)
        save_file(tensors, paths[-1] / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": NAME}
        config |= {"r": rank, "lora_alpha": 2 * rank, "target_modules": list(TARGETS), "bias": "none"}
        (paths[-1] / "adapter_config.json").write_text(json.dumps(config))
    return paths


def prompt(draw: random.Random, low: int, high: int) -> str:
    """A text of about this many tokens."""
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(low, high)))


def check(paths: Sequence[Path]) -> dict[str, int]:
    """Mixed, staggered requests against each alone, in float32, before anything is timed."""
    draw = random.Random(1)
    settings = Settings(max_resident=2, max_rows=4)
    with AdapterHub.from_pretrained(dtype="float32", settings=settings) as hub:
        for k, path in enumerate(paths):
            hub.register(f"a{k}", path)
        jobs = [(prompt(draw, 10, 60), None if k % 5 == 4 else f"a{k % len(paths)}") for k in range(12)]
        alone = [hub.generate(text, adapter=name, max_new_tokens=12).token_ids for text, name in jobs]
        running = []
        for text, name in jobs:
            running.append(hub.submit(text, adapter=name, max_new_tokens=12))
            time.sleep(0.05)
        found = [generation.result().token_ids for generation in running]
    assert found == alone, "a row differs from what it is alone"
    bare = len({ids for ids, (_, name) in zip(alone, jobs, strict=True) if name is None})
    return {"requests": len(jobs), "equal": sum(a == b for a, b in zip(found, alone, strict=True)), "of_the_base": bare}


def against_generate(hub: AdapterHub, turns: int) -> dict[str, Any]:
    """32 requests together: in the engine, and as one batch of ``generate``; in turns, outputs counted."""
    draw = random.Random(2)
    new, figures = 48, {}
    voice = hub._residents.voice(None)
    endless = replace(voice, stop_ids=frozenset())
    equal = voice.encode(prompt(draw, 100, 100))[:100]
    cases = {
        "equal": [equal] * 32,
        "like lengths": [voice.encode(prompt(draw, 100, 100))[:100] for _ in range(32)],
        "ragged": [voice.encode(prompt(draw, 100, 100))[: draw.randint(8, 100)] for _ in range(32)],
    }
    for case, texts in cases.items():
        rows = [Row(ids, endless, None) for ids in texts]
        lengths = [draw.randint(8, new) if case == "ragged" else new for _ in rows]
        pairs = []
        for _ in range(turns + 1):
            start = time.perf_counter()
            whole = run_batch(hub.base, rows, Sampling(max_new_tokens=max(lengths)))
            middle = time.perf_counter()
            running = [
                hub._front.engine.submit(row, Sampling(max_new_tokens=length, ignore_eos=True))  # type: ignore[union-attr]
                for row, length in zip(rows, lengths, strict=True)
            ]
            done = [generation.result() for generation in running]
            pairs.append((middle - start, time.perf_counter() - middle))
        # In bfloat16 a batch of another shape rounds differently: most first tokens must agree all the same.
        agree = sum(a.token_ids[0] == b.token_ids[0] for a, b in zip(whole, done, strict=True))
        assert agree >= 28, f"{agree} of 32 first tokens agree"
        tokens = sum(lengths)
        figures[case] = {
            "generate_tokens_per_second": tokens / median(pair[0] for pair in pairs[1:]),
            "engine_tokens_per_second": tokens / median(pair[1] for pair in pairs[1:]),
            "engine_over_generate": median(pair[0] / pair[1] for pair in pairs[1:]),
            "first_tokens_agree": agree,
        }
        print(case, figures[case], flush=True)
    return figures


def popularity(kind: str, count: int, draw: random.Random, requests: int) -> list[str | None]:
    """Adapters of the requests."""
    if count == 0:
        return [None] * requests
    weights = [1 / (k + 1) if kind == "zipf" else 1.0 for k in range(count)]
    return [f"a{k}" for k in draw.choices(range(count), weights, k=requests)]


def serve(hub: AdapterHub, names: Sequence[str | None], rate: float) -> dict[str, float]:
    """One load: requests arrive at random moments, ``rate`` a second on the average."""
    draw = random.Random(4)
    before, start = hub.load(), time.perf_counter()
    running, due = [], start
    for name in names:
        due += draw.expovariate(rate)
        time.sleep(max(0.0, due - time.perf_counter()))
        new = draw.randint(8, 32)
        running.append(hub.submit(prompt(draw, 16, 64), adapter=name, max_new_tokens=new, ignore_eos=True))
    done = [generation.result() for generation in running]
    seconds, after = time.perf_counter() - start, hub.load()
    first = [completion.timing.first_token for completion in done if completion.timing]
    per_token = [
        (c.timing.total - c.timing.first_token) / (c.completion_tokens - 1)
        for c in done
        if c.timing and c.completion_tokens > 1
    ]
    return {
        "tokens_per_second": sum(completion.completion_tokens for completion in done) / seconds,
        "first_token_p50": median(first),
        "first_token_p99": quantiles(first, n=100)[98],
        "seconds_per_token": mean(per_token),
        "loads": after.loads - before.loads,
        "hit_rate": (after.hits - before.hits) / len(names),
    }


def registered(folder: Path, turns: int) -> dict[str, float]:
    """Seconds of a request of one token, with few and with many adapters registered."""
    figures = {}
    for count in (10, 10_000):
        with AdapterHub.from_pretrained(settings=Settings()) as hub:
            info = hub.register("a", folder)
            for k in range(count - 1):
                hub._residents.registry.add(replace(info, name=f"n{k}", digest=f"{k:064x}"))
            hub.generate("warm", adapter="a", max_new_tokens=1)
            times = []
            for _ in range(turns):
                start = time.perf_counter()
                hub.generate("a request", adapter="a", max_new_tokens=1)
                times.append(time.perf_counter() - start)
            figures[f"seconds_with_{count}"] = median(times)
    return figures


def main() -> None:
    """Check, time, write."""
    from .reporting import write

    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 96
    figures: dict[str, Any] = {"requests": requests, "slots": SLOTS, "adapters": {"rank": 8, "sites": "q and v"}}
    with tempfile.TemporaryDirectory() as scratch:
        with AdapterHub.from_pretrained(settings=Settings()) as hub:
            paths = make_adapters(Path(scratch), hub.model, 512)
            figures["check"] = check(paths[:4])
            figures["against_generate"] = against_generate(hub, 5)
        figures["registered"] = registered(paths[0], 30)
        print(figures["registered"], flush=True)
        with AdapterHub.from_pretrained(settings=Settings(max_resident=SLOTS)) as hub:
            for k, path in enumerate(paths):
                hub.register(f"a{k}", path)
            serve(hub, [None] * 24, 50.0)  # warm
            full = serve(hub, [None] * 48, 1000.0)
            # Three quarters of what the bare base can do, in requests of 20 tokens.
            rate = figures["arrivals_per_second"] = 0.75 * full["tokens_per_second"] / 20
            figures["all_at_once"] = full
            figures["loads"] = {}
            for kind, count in [("base", 0), *((k, n) for n in (4, 64, 512) for k in ("uniform", "zipf"))]:
                names = popularity(kind, count, random.Random(5), requests)
                case = "bare base" if not count else f"{count} adapters, {kind}"
                figures["loads"][case] = serve(hub, names, rate)
                print(case, figures["loads"][case], flush=True)
    write("serving", figures)


if __name__ == "__main__":
    main()
