"""Measure demo adapters on unseen examples: ``python -m demo.train.evaluate demo/adapters/sql``.

The bare base answers the same prompts first. Both decode greedily, on the NF4 base computing in bfloat16, as
it is served. The scores go into the adapter's card.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from tqdm import tqdm
from transformers import PreTrainedModel

from ..tasks import Example, Task, get_task
from .base_model import BaseModel, load_base
from .card import Card, Sample, Scores

NUM_UNSEEN = 200
# Any number will do: the held-out split is disjoint from training whatever the seed.
EVALUATION_SEED = 1
_BATCH_SIZE = 25
_NUM_SAMPLES = 3


def evaluate(card: Card, folder: Path, base_folder: Path | None, num_unseen: int, seed: int) -> Card:
    """The card with the scores of the base and of the adapter in ``folder`` on unseen examples."""
    task = get_task(card.task)
    examples = task.examples("held_out", num_unseen, seed)
    base = load_base(base_folder, torch.bfloat16)
    base_answers = answer_all(base, base.model, task, examples)
    adapted = PeftModel.from_pretrained(base.model, folder).eval()
    adapter_answers = answer_all(base, adapted, task, examples)
    further = {
        name: (_share(map(check, examples, base_answers)), _share(map(check, examples, adapter_answers)))
        for name, check in task.further_scores.items()
    }
    samples = tuple(
        Sample(example.prompt, base_answer, adapter_answer, example.answer)
        for example, base_answer, adapter_answer in zip(examples, base_answers, adapter_answers, strict=True)
    )
    _print_mistakes(task, samples)
    scores = Scores(
        num_unseen=num_unseen,
        seed=seed,
        base_score=_share(task.score(sample.expected, sample.base_answer) for sample in samples),
        adapter_score=_share(task.score(sample.expected, sample.adapter_answer) for sample in samples),
        further=further,
        samples=samples[:_NUM_SAMPLES],
    )
    return replace(card, scores=scores)


@torch.inference_mode()
def answer_all(
    base: BaseModel, model: PreTrainedModel | PeftModel, task: Task, examples: Sequence[Example]
) -> list[str]:
    """The greedy answer of ``model`` to each example's prompt, in the order of ``examples``."""
    prompts = [base.prompt_ids(example.prompt) for example in examples]
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    for start in tqdm(range(0, len(by_length), _BATCH_SIZE), desc=f"answer {task.name}", unit="batch"):
        rows = by_length[start : start + _BATCH_SIZE]
        # Padding on the left: the answer must follow its prompt without a gap.
        inputs = base.tokenizer.pad(
            {"input_ids": [prompts[row] for row in rows]}, padding_side="left", return_tensors="pt"
        ).to(model.device)
        output = model.generate(**inputs, max_new_tokens=task.max_new_tokens, do_sample=False)
        texts = base.tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for row, text in zip(rows, texts, strict=True):
            answers[row] = text.strip()
    return answers


def _share(outcomes: Iterable[bool]) -> float:
    right = list(outcomes)
    return round(sum(right) / len(right), 4)


def _print_mistakes(task: Task, samples: Sequence[Sample]) -> None:
    for sample in samples:
        if not task.score(sample.expected, sample.adapter_answer):
            print(f"{sample.prompt}\n  expected {sample.expected}\n  answered {sample.adapter_answer}")


def main() -> None:
    """Measure the adapters in the given folders again and rewrite their cards."""
    parser = argparse.ArgumentParser(description="Measure demo adapters on unseen examples.")
    parser.add_argument("folders", type=Path, nargs="+", help="folders of trained adapters")
    parser.add_argument("--base", type=Path, help="checkpoint folder; default: the project's default base")
    parser.add_argument("--unseen", type=int, default=NUM_UNSEEN, help="number of unseen examples")
    parser.add_argument("--seed", type=int, default=EVALUATION_SEED, help="seed of the unseen examples")
    arguments = parser.parse_args()
    for folder in arguments.folders:
        card = evaluate(Card.read(folder), folder, arguments.base, arguments.unseen, arguments.seed)
        card.write(folder)
        if card.scores is not None:
            print(f"{card.name}: base {card.scores.base_score:.1%}, adapter {card.scores.adapter_score:.1%}")


if __name__ == "__main__":
    main()
