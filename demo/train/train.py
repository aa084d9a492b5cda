"""Train one demo adapter: ``python -m demo.train.train --task sql --out demo/adapters/sql``.

Plain QLoRA with PEFT: the base stays frozen in NF4, the adapter learns in float32, and the loss is taken on
the answer alone. The adapter is then measured on unseen examples (see ``evaluate.py``) and gets its
model card.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup

from ..tasks import get_task
from .base_model import BASE_NAME, load_base
from .batches import Batch, make_batches
from .card import Card
from .evaluate import EVALUATION_SEED, NUM_UNSEEN, evaluate
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
    """Train the recipe's adapter on the base in ``folder`` and save it under ``out`` in bfloat16.

    Raises:
        ValueError: the task cannot give that many examples.
    """
    torch.manual_seed(seed)
    # Two CPU cores without AMX multiply float32 nearly twice as fast as bfloat16 (measured: 270 against
    # 150 GFLOP/s), and the adapter's weights are float32 anyway.
    base = load_base(folder, torch.bfloat16 if torch.cuda.is_available() else torch.float32)
    base.model.config.use_cache = False
    examples = get_task(recipe.task).examples("train", recipe.num_steps * recipe.batch_size, seed)
    batches = make_batches(base, examples, recipe.batch_size, seed)
    model = get_peft_model(base.model, recipe.config())
    # PEFT writes down where it loaded the base from, which is a folder of this machine.
    model.active_peft_config.base_model_name_or_path = BASE_NAME
    run = _fit(model, batches, recipe)
    _save(model, out)
    return run


def _fit(model: PeftModel, batches: Sequence[Batch], recipe: Recipe) -> Run:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, int(len(batches) * _WARMUP_SHARE), len(batches))
    model.train()
    losses: list[float] = []
    started = time.monotonic()
    with tqdm(batches, desc=f"train {recipe.task}", unit="step") as bar:
        for batch in bar:
            loss = _answer_loss(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, _MAX_GRAD_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            bar.set_postfix(loss=f"{_mean(losses[-20:]):.3f}")
    return Run(time.monotonic() - started, _mean(losses[:20]), _mean(losses[-20:]))


def _answer_loss(model: PeftModel, batch: Batch) -> torch.Tensor:
    """Mean cross entropy of the answer tokens."""
    causal_lm = model.get_base_model()
    ids, is_answer = batch.input_ids.to(causal_lm.device), batch.is_answer.to(causal_lm.device)
    # No attention mask: padding is on the right, where causal attention never looks. And only the positions
    # before an answer token go through lm_head, whose 49,152 rows would cost as much as eight layers.
    hidden = causal_lm.model(input_ids=ids).last_hidden_state[:, :-1]
    logits = causal_lm.lm_head(hidden[is_answer[:, 1:]]).float()
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:][is_answer[:, 1:]])


def _save(model: PeftModel, out: Path) -> None:
    # save_embedding_layers=False: "auto" would ask the Hub for the base's vocabulary.
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    model.save_pretrained(out, state_dict=tensors, save_embedding_layers=False)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


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
    print(f"{run.seconds:.0f} s, loss {run.first_loss:.3f} -> {run.last_loss:.3f}")
    task = get_task(recipe.task)
    card = Card(
        name=arguments.out.name,
        task=task.name,
        title=task.title,
        description=task.description,
        held_out=task.held_out,
        base=BASE_NAME,
        method=recipe.method,
        settings=recipe.settings(),
        seed=arguments.seed,
        num_steps=recipe.num_steps,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        training_seconds=round(run.seconds),
        final_loss=round(run.last_loss, 4),
    )
    if arguments.unseen:
        card = evaluate(card, arguments.out, arguments.base, arguments.unseen, EVALUATION_SEED)
    card.write(arguments.out)


if __name__ == "__main__":
    main()
