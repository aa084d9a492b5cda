"""Every variant's trained adapter on the default base, held against its oracle; writes docs/variants.md.

    python -m benchmarks.variants

Claims (or, where more, twice what the bare base loses to its type): float32 within 1e-4 of PEFT or of the paper's
formula on a dense W; NF4 with float32 compute within 1e-3, with bfloat16 within 2 % of the logits' norm; each row of a
batch with every variant and the base as alone.
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

from adapter_hub import AdapterHub, Settings
from demo.tasks import get_task
from demo.train.card import Card

from . import oracles
from .drawn import draw_all
from .reporting import write

ROOT = Path(__file__).parents[1]
ADAPTERS = ROOT / "demo" / "adapters"
PAGE = ROOT / "docs" / "variants.md"
BASE = "no adapter"
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
    prompts = ["What is the capital of France?", "Write a haiku about autumn."]
    return [Case(title, path, None, prompts) for title, path in draw_all(folder)]


Logits = dict[str, list[torch.Tensor]]


@torch.inference_mode()
def served(cases: Sequence[Case], *, quantised: bool, dtype: torch.dtype) -> Logits:
    """What a hub makes of each case's prompts, in raw forwards, by title; and the bare base of the first one's."""
    found: Logits = {}
    with _open(quantised, dtype) as hub:
        found[BASE] = [hub.model(_ids(hub, prompt)).logits.double() for prompt in cases[0].prompts]
        for case in cases:
            hub.load_adapter(case.folder, "a")
            with hub.rows(["a"]):
                found[case.title] = [hub.model(_ids(hub, prompt)).logits.double() for prompt in case.prompts]
            hub.remove("a")
    return found


@torch.inference_mode()
def expected(cases: Sequence[Case], *, quantised: bool, dtype: torch.dtype, peft_only: bool = False) -> Logits:
    """What the oracles make of the same prompts."""
    found: Logits = {}
    with _open(quantised, torch.float32) as hub:
        ids = {case.title: [_ids(hub, prompt) for prompt in case.prompts] for case in cases}
    ids[BASE] = ids[cases[0].title]
    for title, folder in [(BASE, None), *((case.title, case.folder) for case in cases)]:
        if peft_only and folder is not None and not (folder / "adapter_config.json").is_file():
            continue
        model = None
        try:
            model = oracles.adapted(folder, quantised=quantised, dtype=dtype)
            found[title] = [model(row).logits.double() for row in ids[title]]
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            if not peft_only:
                raise
            # Its IA3 on a 4-bit base gives attention keys in float32 beside queries in bfloat16, for one.
            print(f"{title}: PEFT fails: {error}", flush=True)
        print(title, flush=True)
        del model
        gc.collect()
    return found


def largest(found: Logits, right: Logits) -> dict[str, float]:
    """The largest difference of a logit, by title."""
    return {t: max((a - b).abs().max().item() for a, b in zip(found[t], right[t], strict=True)) for t in found}


def relative(found: Logits, right: Logits) -> dict[str, float]:
    """The largest norm of a difference over the norm of the logits, by title."""
    return {t: max(((a - b).norm() / b.norm()).item() for a, b in zip(found[t], right[t], strict=True)) for t in found}


@torch.inference_mode()
def measure_mixed(cases: Sequence[Case]) -> tuple[dict[str, float], dict[str, tuple[int, int]]]:
    """By title: the largest difference of a row's logits in a batch of the base and every variant from it alone.

    And the bytes of each adapter's tensors in its file, and of those that are its own on the device.
    """
    with _open(False, torch.float32) as hub:
        stored = {case.title: hub.load_adapter(case.folder, case.folder.name).bytes for case in cases}
        resident = hub.memory().adapters
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
            title = BASE if name is None else cases[row - 1].title
            worst[title] = max(worst.get(title, 0.0), (mixed[row, :length] - alone).abs().max().item())
    return worst, {case.title: (stored[case.title], resident[case.folder.name]) for case in cases}


def _open(quantised: bool, dtype: torch.dtype) -> AdapterHub:
    return AdapterHub.from_pretrained(
        quantization="nf4" if quantised else None, dtype=dtype, device="cpu", settings=Settings()
    )


def _ids(hub: AdapterHub, prompt: str) -> torch.Tensor:
    chat = [{"role": "user", "content": prompt}]
    encoded = hub.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    return torch.tensor([encoded["input_ids"]])


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown."""
    heads: tuple[str, ...] = (
        "variant",
        "float32",
        "NF4, float32 compute",
        "NF4, bfloat16: hub / PEFT",
        "in a mixed batch",
        "MB: file / resident",
    )
    heads += ("trained adapter", "score")
    lines = ["# Variants", "", INTRODUCTION.strip(), "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        peft = "none" if row["nf4_bf16_peft"] is None else f"{row['nf4_bf16_peft']:.1%}"
        lines.append(
            f"| {row['variant']} | {row['float32']:.1e} | {row['nf4']:.1e} | {row['nf4_bf16']:.1%} / {peft} "
            f"| {row['mixed']:.1e} | {row['megabytes']} | {row['adapter']} | {row['score']} |"
        )
    return "\n".join([*lines, "", NOTES.strip(), ""])


INTRODUCTION = """
Made by `python -m benchmarks.variants` on the default base (SmolLM2-135M-Instruct), logits of size up to 80; every
figure is of a raw forward under `hub.rows`. *float32* and *NF4, float32 compute*: largest difference of a logit
from the oracle's. *NF4, bfloat16*: norm of the difference from the oracle in float32 over the norm of the logits,
and the same of PEFT computing in bfloat16 (see below). *In a mixed batch*: largest difference of a logit, float32,
between a row of one batch that holds every adapter of this table and two rows of the base, and that row alone.
*MB*: the tensors of the file, and those that are the adapter's own on the device; what it shares with others of its
type is kept once and not counted. The oracle is PEFT in float32 where it has the variant; over NF4, for LoHa, LoKr
and HRA, which PEFT refuses there, PEFT over a dense base of the dequantised weights. For LoRA-drop, Delta-LoRA, full
and freeze tuning, and for the base, it is the paper's formula on a dense W in float64, written out in
`benchmarks/oracles.py`: there the figures include what float32 itself loses, which the last row shows for the base.
Scores are on 200 unseen examples, base -> adapter, from the adapters' cards.
"""
NOTES = """
All but full tuning were trained as QLoRA trains: on the base frozen in NF4 with double quantisation. LoRA+, LoRA-FA
and QLoRA are ways to train a LoRA and are stored as one. For the formats see
[adapter-format.md](adapter-format.md); PEFT's adapters are read as PEFT writes them. VeRA is read with and without
its projections, AdaLoRA before and after pruning; the trained ones here are drawn again and pruned. Where PEFT has
no figure it lacks the variant, refuses it over 4 bit, or fails in bfloat16 there. What has no task of its own in the
demo is drawn at random, so it has no score. In bfloat16 thirty layers of 4-bit weights make a few per cent of any
difference in rounding, on the bare base as well: what counts is that a hub is about as near to the exact logits as
PEFT is. In the order of operations that PEFT uses on a 4-bit base, LoRA is equal
to it bit for bit ([decision 2](decisions/0002-adapter-precision.md)); tests hold that.

## Beyond the table

Held by tests against PEFT, with no row of their own: PiSSA and OLoRA as PEFT stores them (what they took out of the
weight is computed again, from the checkpoint where the base is in 4 bit) and as PEFT converts them; LoRA on the
experts and the router of Mixtral, Qwen-MoE and gpt-oss, in the files of transformers 4 and 5; BOFT with several
butterfly factors; Bone, which is MiSS under an older name; each type with its biases, patterns and on Conv1D where PEFT
has that. Starts that leave the base alone (EVA, MiCA, orthogonal, gaussian) are plain LoRA, and so are CorDA, LoRA-GA
and `pissa_niter` once PEFT has converted them; unconverted they are refused, for the file does not tell what was
taken out of the base. So are LoftQ without its base, X-LoRA, Poly, prompts and prefixes, and seventeen types whose
mathematics were not checked: each by name, with the way out.

How each is kept on the device, and why: [decision 7](decisions/0007-compact-updates.md).
"""


def main() -> None:
    """Measure, hold against the bars, write the JSON and the page."""
    parser = argparse.ArgumentParser(description="Hold every variant against its oracle; write docs/variants.md.")
    parser.add_argument("--adapters", type=Path, default=ADAPTERS, help="folder of trained adapters with cards")
    folder = parser.parse_args().adapters
    with tempfile.TemporaryDirectory() as scratch:
        cases = [*trained(folder), *drawn(Path(scratch))]
        right = expected(cases, quantised=False, dtype=torch.float32)
        exact = largest(served(cases, quantised=False, dtype=torch.float32), right)
        right = expected(cases, quantised=True, dtype=torch.float32)
        nf4 = largest(served(cases, quantised=True, dtype=torch.float32), right)
        bf16 = relative(served(cases, quantised=True, dtype=torch.bfloat16), right)
        peft = relative(expected(cases, quantised=True, dtype=torch.bfloat16, peft_only=True), right)
        mixed, sizes = measure_mixed(cases)
    facts = {case.title: _facts(case) for case in cases}
    facts[BASE] = {"adapter": "none", "score": "0 to 1 %"}
    rows = [
        {
            "variant": title,
            "float32": exact[title],
            "nf4": nf4[title],
            "nf4_bf16": bf16[title],
            "nf4_bf16_peft": peft.get(title),
            "mixed": mixed[title],
            "megabytes": " / ".join(f"{size / 1e6:.2f}" for size in sizes[title]) if title in sizes else "none",
            **facts[title],
        }
        for title in [*(case.title for case in cases), BASE]
    ]
    write("variants", {"bars": BARS, "rows": rows})
    PAGE.write_text(page(rows), encoding="utf-8")
    measured = {"float32": exact, "nf4": nf4, "nf4_bf16": bf16, "mixed": mixed}
    # Against an oracle in float64 no more can be asked than that the adapter loses no more than the base does.
    over = [
        (t, n, found[t]) for n, found in measured.items() for t in found if found[t] > max(BARS[n], 2 * found[BASE])
    ]
    if over:
        raise SystemExit(f"over the bar: {over}")


def _facts(case: Case) -> dict[str, str]:
    if case.card is None or case.card.scores is None:
        return {"adapter": "drawn at random", "score": "none: not trained"}
    name, scores = case.card.name, case.card.scores
    link = f"[{name}](../demo/adapters/{name}/README.md)"
    return {"adapter": link, "score": f"{scores.base_score:.1%} -> {scores.adapter_score:.1%}"}


if __name__ == "__main__":
    main()
