"""Every variant's trained adapter on the default base, held against its oracle; writes docs/variants.md.

    python -m benchmarks.variants

Claims (design numbers): float32 within 1e-4 of PEFT or of the paper's formula on a dense W; NF4 with float32 compute
within 1e-3, with bfloat16 within 2 % of the logits' norm; each row of a batch with every variant and the base as alone.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model

from adapter_hub import AdapterHub, Settings
from adapter_hub.base.default import NAME
from demo.tasks import get_task
from demo.train.card import Card

from . import oracles
from .reporting import write

ROOT = Path(__file__).parents[1]
ADAPTERS = ROOT / "demo" / "adapters"
PAGE = ROOT / "docs" / "variants.md"
BARS = {"float32": 1e-4, "nf4": 1e-3, "nf4_bf16": 2e-2, "mixed": 1e-4}


@dataclass(frozen=True)
class Case:
    """One row of the table; ``card`` is None where the adapter was drawn at random."""

    title: str
    folder: Path
    card: Card | None
    prompts: Sequence[str]


def trained(folder: Path) -> list[Case]:
    """The demo's adapters."""
    found = []
    for path in sorted(folder.glob("*/card.json")):
        card = Card.read(path.parent)
        prompts = [example.prompt for example in get_task(card.task).examples("held_out", 2, seed=9)]
        found.append(Case(card.method, path.parent, card, prompts))
    return found


def drawn(folder: Path) -> list[Case]:
    """Variants without a trained adapter, drawn at random through PEFT."""
    # PEFT starts IA3 at ones and trained tokens at the base's rows: small steps from there are what training gives.
    ia3 = IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])
    tokens = LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[1, 2, 198])
    prompts = ["What is the capital of France?", "Write a haiku about autumn."]
    return [
        Case(title, _draw(folder / name, config), None, prompts)
        for title, name, config in (("IA3 (a plugin of its own)", "ia3", ia3), ("Trained tokens", "tokens", tokens))
    ]


def _draw(folder: Path, config: PeftConfig) -> Path:
    torch.manual_seed(0)
    model = get_peft_model(oracles.load_base(False, torch.float32), config)
    model.active_peft_config.base_model_name_or_path = NAME
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


@torch.inference_mode()
def measure(cases: Sequence[Case], *, quantised: bool, dtype: torch.dtype) -> dict[str, tuple[float, float]]:
    """By title: the largest difference of logits from the oracle's, and its norm over the norm of those."""
    errors = {}
    with _open(quantised, dtype) as hub:
        for case in cases:
            hub.load_adapter(case.folder, "a")
            ids = [_ids(hub, prompt) for prompt in case.prompts]
            with hub.rows(["a"]):
                found = [hub.model(row).logits.float() for row in ids]
            hub.remove("a")
            model = oracles.adapted(case.folder, quantised=quantised, dtype=dtype)
            expected = [model(row).logits.float() for row in ids]
            del model
            gc.collect()
            pairs = list(zip(found, expected, strict=True))
            errors[case.title] = (
                max((a - b).abs().max().item() for a, b in pairs),
                max(((a - b).norm() / b.norm()).item() for a, b in pairs),
            )
            print(f"{case.title}: {errors[case.title]}", flush=True)
    return errors


@torch.inference_mode()
def measure_mixed(cases: Sequence[Case]) -> dict[str, float]:
    """By title: the largest difference of a row's logits in a batch of the base and every variant from it alone."""
    with _open(False, torch.float32) as hub:
        for case in cases:
            hub.load_adapter(case.folder, case.folder.name)
        names = [None, *(case.folder.name for case in cases), None]
        texts = [cases[0].prompts[0], *(case.prompts[0] for case in cases), cases[1].prompts[0]]
        batch = hub.tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
        with hub.rows(names):
            mixed = hub.model(**batch).logits
        worst: dict[str, float] = {}
        for row, name in enumerate(names):
            length = int(batch["attention_mask"][row].sum())
            with hub.rows([name]):
                alone = hub.model(batch["input_ids"][row : row + 1, :length]).logits[0]
            title = "base" if name is None else cases[row - 1].title
            worst[title] = max(worst.get(title, 0.0), (mixed[row, :length] - alone).abs().max().item())
    return worst


def _open(quantised: bool, dtype: torch.dtype) -> AdapterHub:
    return AdapterHub.from_pretrained(
        quantization="nf4" if quantised else None, dtype=dtype, device="cpu", settings=Settings()
    )


def _ids(hub: AdapterHub, prompt: str) -> torch.Tensor:
    chat = [{"role": "user", "content": prompt}]
    encoded = hub.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    return torch.tensor([encoded["input_ids"]])


def page(rows: Sequence[Mapping[str, Any]], base_mixed: float) -> str:
    """The table as Markdown."""
    head = "| variant | float32 | NF4, float32 compute | NF4, bfloat16 | in a mixed batch | trained adapter | score |"
    lines = ["# Variants", "", INTRODUCTION.strip(), "", head, "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row['variant']} | {row['float32']:.1e} | {row['nf4']:.1e} | {row['nf4_bf16']:.2%} | {row['mixed']:.1e} "
        f"| {row['adapter']} | {row['score']} |"
        for row in rows
    ]
    lines.append(f"| no adapter | | | | {base_mixed:.1e} | | |")
    return "\n".join([*lines, "", NOTES.strip(), ""])


INTRODUCTION = """
Made by `python -m benchmarks.variants` on the default base (SmolLM2-135M-Instruct); every figure is of a raw
forward under `hub.rows`. *float32* and *NF4, float32 compute*: largest difference of a logit from the oracle's.
*NF4, bfloat16*: norm of the difference over the norm of the logits. *In a mixed batch*: largest difference of a
logit, float32, between a row of one batch that holds every adapter of this table and two rows of the base, and that
row alone. The oracle is PEFT where it has the variant; for LoRA-drop, Delta-LoRA, full and freeze tuning it is the
paper's formula on a dense W, written out in `benchmarks/oracles.py`. Scores are on 200 unseen examples, base ->
adapter, from the adapters' cards.
"""
NOTES = """
All but full tuning were trained as QLoRA trains: on the base frozen in NF4 with double quantisation. LoRA+, LoRA-FA
and QLoRA are ways to train a LoRA and are stored as one. For the formats see [adapter-format.md](adapter-
format.md); PEFT's adapters are read as PEFT writes them. VeRA is read with and without its projections, AdaLoRA
before and after pruning; the trained ones here are drawn again and pruned. IA3 and trained tokens have no task of
their own in the demo: theirs are drawn at random, so they have no score.
"""


def main() -> None:
    """Measure, hold against the bars, write the JSON and the page."""
    parser = argparse.ArgumentParser(description="Hold every variant against its oracle; write docs/variants.md.")
    parser.add_argument("--adapters", type=Path, default=ADAPTERS, help="folder of trained adapters with cards")
    folder = parser.parse_args().adapters
    with tempfile.TemporaryDirectory() as scratch:
        cases = [*trained(folder), *drawn(Path(scratch))]
        exact = measure(cases, quantised=False, dtype=torch.float32)
        nf4 = measure(cases, quantised=True, dtype=torch.float32)
        served = measure(cases, quantised=True, dtype=torch.bfloat16)
        mixed = measure_mixed(cases)
    rows = []
    for case in cases:
        card, scores = case.card, case.card.scores if case.card else None
        rows.append(
            {
                "variant": case.title,
                "float32": exact[case.title][0],
                "nf4": nf4[case.title][0],
                "nf4_bf16": served[case.title][1],
                "mixed": mixed[case.title],
                "adapter": f"[{card.name}](../demo/adapters/{card.name}/README.md)" if card else "drawn at random",
                "score": f"{scores.base_score:.1%} -> {scores.adapter_score:.1%}" if scores else "none: not trained",
            }
        )
    write("variants", {"bars": BARS, "rows": rows, "base_in_mixed_batch": mixed["base"]})
    PAGE.write_text(page(rows, mixed["base"]), encoding="utf-8")
    measured = {"float32": exact, "nf4": nf4, "nf4_bf16": served}
    over = [
        (case.title, name)
        for case in cases
        for name, found in measured.items()
        if found[case.title][name == "nf4_bf16"] > BARS[name]
    ]
    over += [(title, "mixed") for title, difference in mixed.items() if difference > BARS["mixed"]]
    if over:
        raise SystemExit(f"over the bar: {over}")


if __name__ == "__main__":
    main()
