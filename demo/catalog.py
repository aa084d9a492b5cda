"""What the page offers to answer with: the base, and each registered adapter with its card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_hub import AdapterHub, AdapterHubError, AdapterInfo

from .train.card import Card

DEMO_ADAPTERS = Path(__file__).parent / "adapters"
# Stands for the base where a page needs a string: no adapter's name can hold a colon.
BASE = ":base"
_MAX_LABEL_LEN = 58
_QUESTION = "Question: "
BASE_PROMPTS = (
    "What is the capital of France?",
    "Explain in two sentences why the sky is blue.",
    "Write a haiku about autumn.",
)


@dataclass(frozen=True)
class Choice:
    """One thing to answer with.

    Args:
        name: the adapter's name; None is the base.
        title: what it is, in a few words.
        description: what it does, in a sentence or two.
        prompts: examples to try it with.
        info: what the registry knows of the adapter; None for the base.
        card: how it was trained and measured, where its folder tells.
    """

    name: str | None
    title: str
    description: str
    prompts: tuple[str, ...] = ()
    info: AdapterInfo | None = None
    card: Card | None = None

    @property
    def key(self) -> str:
        """The string that stands for it on the page."""
        return name_to_key(self.name)


def name_to_key(name: str | None) -> str:
    """The page's string for an adapter's name or, with None, for the base."""
    return BASE if name is None else name


def key_to_name(key: str | None) -> str | None:
    """The adapter's name for the page's string; None is the base, as is no string at all."""
    return None if key in (None, BASE) else key


def choices(hub: AdapterHub) -> list[Choice]:
    """The base and all registered adapters."""
    return [choice(hub, None), *(_of_adapter(info) for info in hub.adapters())]


def choice(hub: AdapterHub, name: str | None) -> Choice:
    """One of the choices.

    Raises:
        NotRegistered: there is no adapter of this name.
    """
    if name is None:
        about = "The frozen model as it was published. Every adapter answers through these same weights."
        return Choice(None, "no adapter", about, BASE_PROMPTS)
    return _of_adapter(hub.info(name))


def register_demo_adapters(hub: AdapterHub, folder: Path = DEMO_ADAPTERS) -> list[str]:
    """Register every adapter below ``folder`` under its folder's name.

    Returns:
        A sentence for each that this base cannot serve; those are left out.
    """
    notices = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        name = path.name
        try:
            hub.register(name, path, tags=("demo",))
        except AdapterHubError as error:
            notices.append(f"The demo adapter {name!r} is left out: {error.message}")
    return notices


def samples(prompts: Sequence[str]) -> dict[str, Any]:
    """Example prompts as ``gr.Dataset`` takes them, each under a short label."""
    labels = [_short(prompt, prompts) for prompt in prompts]
    return {"samples": [[prompt] for prompt in prompts], "sample_labels": labels}


def _short(prompt: str, prompts: Sequence[str]) -> str:
    """The question in a prompt, or those of its lines that are not the same in all of them."""
    lines = [line.strip() for line in prompt.splitlines() if line.strip()]
    own = [line for line in lines if len(prompts) == 1 or not all(line in other for other in prompts)] or lines
    asked = [line.removeprefix(_QUESTION) for line in own if line.startswith(_QUESTION)]
    label = " ".join(asked or own)
    return label if len(label) <= _MAX_LABEL_LEN else label[: _MAX_LABEL_LEN - 1] + "…"


def _of_adapter(info: AdapterInfo) -> Choice:
    card = _read_card(Path(info.folder))
    if card is None:
        about = f"Changes {info.sites} sites of the base. Its folder holds no card."
        return Choice(info.name, f"{info.variant} adapter", about, (), info, None)
    samples = () if card.scores is None else card.scores.samples
    prompts = tuple(sample.prompt for sample in samples)
    return Choice(info.name, card.title, card.description, prompts, info, card)


def _read_card(folder: Path) -> Card | None:
    """The card in an adapter's folder; None where there is none, or none of ours."""
    try:
        return Card.read(folder)
    except (OSError, json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None
