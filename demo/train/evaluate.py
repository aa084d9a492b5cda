"""Measure demo adapters on unseen examples: ``python -m demo.train.evaluate demo/adapters/sql``.

The bare base answers the same prompts first. Both are served by a hub on the NF4 base and decode greedily. The scores
go into the adapter's card.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from adapter_hub import AdapterHub

from ..answering import Question, answer_all
from ..tasks import Example, Task, get_task
from .card import Card, Sample, Scores

NUM_UNSEEN = 200
# Any number will do: the held-out split is disjoint from training whatever the seed.
EVALUATION_SEED = 1
_NUM_SAMPLES = 3


def evaluate(card: Card, folder: Path, base_folder: Path | None, num_unseen: int, seed: int) -> Card:
    """The card with the scores of the base and of the adapter in ``folder`` on unseen examples."""
    task = get_task(card.task)
    examples = task.examples("held_out", num_unseen, seed)
    with AdapterHub.from_pretrained(base_folder) as hub:
        hub.load_adapter(folder, card.name)
        base_answers = _answers(hub, None, task, examples)
        adapter_answers = _answers(hub, card.name, task, examples)
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


def _answers(hub: AdapterHub, adapter: str | None, task: Task, examples: Sequence[Example]) -> list[str]:
    questions = [Question(example.prompt, adapter, task.max_new_tokens) for example in examples]
    return [done.text.strip() for done in answer_all(hub, questions, f"answer {task.name}")]


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
