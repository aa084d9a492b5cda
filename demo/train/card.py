"""The card of a demo adapter: what it learned, how, and how well; kept as card.json and as a README."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

JSON_NAME = "card.json"
MARKDOWN_NAME = "README.md"


@dataclass(frozen=True)
class Sample:
    """One unseen prompt with what the bare base and the adapter make of it."""

    prompt: str
    base_answer: str
    adapter_answer: str
    expected: str


@dataclass(frozen=True)
class Scores:
    """Shares of right answers, between 0 and 1, on ``num_unseen`` examples drawn with ``seed``."""

    num_unseen: int
    seed: int
    base_score: float
    adapter_score: float
    further: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Card:
    """Facts about one adapter; ``scores`` is None until it has been measured."""

    name: str
    task: str
    title: str
    description: str
    held_out: str
    base: str
    method: str
    settings: Mapping[str, Any]
    how: str
    optimizer: str
    machine: str
    seed: int
    num_steps: int
    batch_size: int
    learning_rate: float
    training_seconds: int
    final_loss: float
    scores: Scores | None = None

    def write(self, folder: Path) -> None:
        """Write card.json and the README into the adapter's folder."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / JSON_NAME).write_text(text + "\n", encoding="utf-8")
        (folder / MARKDOWN_NAME).write_text(_markdown(self), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Card:
        """The card that ``write`` left in the folder."""
        facts = json.loads((folder / JSON_NAME).read_text(encoding="utf-8"))
        scores = facts.pop("scores")
        if scores is not None:
            samples = tuple(Sample(**sample) for sample in scores.pop("samples"))
            further = {name: (base, adapter) for name, (base, adapter) in scores.pop("further").items()}
            scores = Scores(**scores, further=further, samples=samples)
        return cls(**facts, scores=scores)


def _markdown(card: Card) -> str:
    parts = [_front_matter(card), f"# {card.title}\n", card.description + "\n"]
    if card.scores is not None:
        parts += [_scores(card, card.scores), _samples(card.scores), _use(card, card.scores.samples[0].prompt)]
    parts.append(_training(card))
    return "\n".join(parts)


def _front_matter(card: Card) -> str:
    lines = [
        "---",
        f"base_model: {card.base}",
        "library_name: adapter-hub",
        "license: apache-2.0",
        "language: en",
        "pipeline_tag: text-generation",
        "tags:",
        f"- base_model:adapter:{card.base}",
        f"- {card.method.lower().replace(' ', '-')}",
        "---\n",
    ]
    return "\n".join(lines)


def _scores(card: Card, scores: Scores) -> str:
    lines = [
        "## How well it does\n",
        f"Measured on {scores.num_unseen} unseen examples, greedy decoding, on the base in NF4. {card.held_out}\n",
        "| | base alone | with the adapter |",
        "|---|---|---|",
        f"| exact match | {scores.base_score:.1%} | {scores.adapter_score:.1%} |",
        *(f"| {name} | {base:.1%} | {adapter:.1%} |" for name, (base, adapter) in scores.further.items()),
        "",
    ]
    return "\n".join(lines)


def _samples(scores: Scores) -> str:
    lines = ["## Prompts it has not seen, with its answers\n"]
    for sample in scores.samples:
        lines += ["```text", sample.prompt, "```\n", "```text", sample.adapter_answer, "```\n"]
        if sample.adapter_answer != sample.expected:
            lines.append(f"Expected was `{sample.expected}`.\n")
    return "\n".join(lines)


def _training(card: Card) -> str:
    settings = ", ".join(f"`{name}={value}`" for name, value in card.settings.items())
    lines = [
        "## How it was trained\n",
        f"{card.method} ({settings}) {card.how}. {card.num_steps} steps of {card.batch_size} generated examples, each "
        f"seen once; {card.optimizer}, learning rate {card.learning_rate:g} with a cosine schedule, seed {card.seed}. "
        f"The loss is taken on the answer only. It took {_duration(card.training_seconds)} on {card.machine}.\n",
        "```sh",
        f"python -m demo.train.train --task {card.name} --out demo/adapters/{card.name}",
        "```\n",
    ]
    return "\n".join(lines)


def _use(card: Card, prompt: str) -> str:
    lines = [
        "## Use\n",
        "Ask as in the examples above: one user message, the base's own chat template, no system message.\n",
        "```python",
        "from adapter_hub import AdapterHub",
        "",
        "hub = AdapterHub.from_pretrained()",
        f'hub.load_adapter("demo/adapters/{card.name}", name="{card.name}")',
        f"question = {json.dumps(prompt, ensure_ascii=False)}",
        'messages = [{"role": "user", "content": question}]',
        f'print(hub.generate(messages, adapter="{card.name}", max_new_tokens=96).text)',
        "```",
        "",
    ]
    return "\n".join(lines)


def _duration(seconds: int) -> str:
    return f"{seconds} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
