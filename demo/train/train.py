"""Train one demo adapter: ``python -m demo.train.train --task sql --out demo/adapters/sql``.

The recipe says which method trains it (``recipe.py``, ``methods/``); the loss is taken on the answer alone. The
adapter is then measured on unseen examples (see ``evaluate.py``) and gets its model card.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from ..tasks import get_task
from .base_model import BASE_NAME
from .batches import Batch, make_batches
from .card import Card
from .evaluate import EVALUATION_SEED, NUM_UNSEEN, evaluate
from .methods import Learner
from .methods.learner import answer_loss
from .recipe import Recipe, get_recipe

_WARMUP_SHARE = 0.05
_MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class Run:
    """What a training run left behind: its wall time, and its loss over the first and the last steps."""

    seconds: float
    first_loss: float
    last_loss: float


def train(recipe: Recipe, folder: Path | None, out: Path, seed: int) -> Run:
    """Train the recipe's adapter on the base in ``folder`` and save it under ``out``.

    Raises:
        ValueError: the task cannot give that many examples.
    """
    torch.manual_seed(seed)
    base = recipe.method.load(folder)
    examples = get_task(recipe.task).examples("train", recipe.num_steps * recipe.batch_size, seed)
    batches = make_batches(base, examples, recipe.batch_size, seed)
    started = time.monotonic()
    learner = recipe.method.start(base, batches, recipe.learning_rate)
    losses = _fit(learner, batches, f"train {recipe.task}")
    run = Run(time.monotonic() - started, _mean(losses[:20]), _mean(losses[-20:]))
    learner.save(out)
    return run


def _fit(learner: Learner, batches: Sequence[Batch], title: str) -> list[float]:
    optimizer = learner.optimizer
    schedule = get_cosine_schedule_with_warmup(optimizer, int(len(batches) * _WARMUP_SHARE), len(batches))
    losses: list[float] = []
    with tqdm(batches, desc=title, unit="step") as bar:
        for step, batch in enumerate(bar):
            with learner.precision():
                loss = answer_loss(learner.causal_lm, batch)
            (loss + learner.regularisation()).backward()
            torch.nn.utils.clip_grad_norm_(learner.parameters, _MAX_GRAD_NORM)
            learner.before_step(step)
            optimizer.step()
            learner.after_step(step)
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            bar.set_postfix(loss=f"{_mean(losses[-20:]):.3f}")
    return losses


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _machine() -> str:
    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    return "two CPU cores that had other work to do as well"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train one demo adapter and measure it.")
    parser.add_argument("--task", required=True, help="the recipe to train; it names the task")
    parser.add_argument("--out", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--base", type=Path, help="checkpoint folder; default: the project's default base")
    parser.add_argument("--steps", type=int, help="default: the recipe's")
    parser.add_argument("--learning-rate", type=float, help="default: the recipe's")
    parser.add_argument("--batch-size", type=int, help="default: the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unseen", type=int, default=NUM_UNSEEN, help="examples to measure on; 0: do not measure")
    return parser.parse_args()


def make_card(name: str, recipe: Recipe, run: Run, seed: int) -> Card:
    """The card of a trained adapter, not yet measured."""
    task, method = get_task(recipe.task), recipe.method
    return Card(
        name=name,
        task=task.name,
        title=task.title,
        description=task.description,
        held_out=task.held_out,
        base=BASE_NAME,
        method=method.title,
        settings=method.settings,
        how=method.how,
        optimizer=method.optimizer,
        machine=_machine(),
        seed=seed,
        num_steps=recipe.num_steps,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        training_seconds=round(run.seconds),
        final_loss=round(run.last_loss, 4),
    )


def main() -> None:
    """Train, write the card, measure, and write the card again with the scores."""
    arguments = _arguments()
    recipe = get_recipe(arguments.task)
    recipe = replace(
        recipe,
        num_steps=arguments.steps or recipe.num_steps,
        learning_rate=arguments.learning_rate or recipe.learning_rate,
        batch_size=arguments.batch_size or recipe.batch_size,
    )
    run = train(recipe, arguments.base, arguments.out, arguments.seed)
    print(f"{recipe.task}: {run.seconds:.0f} s, loss {run.first_loss:.3f} -> {run.last_loss:.3f}")
    card = make_card(arguments.out.name, recipe, run, arguments.seed)
    card.write(arguments.out)
    if arguments.unseen:
        card = evaluate(card, arguments.out, arguments.base, arguments.unseen, EVALUATION_SEED)
        card.write(arguments.out)
        assert card.scores is not None
        print(f"{card.name}: base {card.scores.base_score:.1%}, adapter {card.scores.adapter_score:.1%}")


if __name__ == "__main__":
    main()
