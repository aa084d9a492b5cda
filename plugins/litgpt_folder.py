"""Format: the folder that ``litgpt finetune_lora`` writes (``lit_model.pth.lora`` beside ``hyperparameters.yaml``).

LitGPT has models of its own (``litgpt_names``). The scale is in the hyperparameters; weights are a pickle.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_hub.config import Settings
from adapter_hub.errors import CorruptFile
from adapter_hub.hookspecs import AdapterFiles, Format, hookimpl
from adapter_hub.loading.files import read_pickle, read_text

from .litgpt_names import fit_names
from .lora import LINEAR

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

WEIGHTS, CONFIG = "lit_model.pth.lora", "hyperparameters.yaml"
MAX_TEXT_BYTES = 1 << 16
# The settings that count are plain values at the top of the file; a YAML reader would read what a bomb holds, too.
SETTING = re.compile(r"(?m)^(lora_\w+|checkpoint_dir): *(\S.*)$")
HALVES = (".lora_A", ".lora_B")
ENABLED = ("lora_query", "lora_key", "lora_value")


class LitGptFolder:
    """Weights and hyperparameters."""

    name = "litgpt"

    def detect(self, folder: Path) -> bool:
        """True if the weights are there; no other tool has a file of this name."""
        return (folder / WEIGHTS).is_file()

    def files(self, folder: Path) -> tuple[Path, ...]:
        """The two files, those that are there."""
        return tuple(folder / name for name in (CONFIG, WEIGHTS) if (folder / name).is_file())

    def read(self, folder: Path, settings: Settings) -> AdapterFiles:
        """Read both; modules keep LitGPT's names until there is a base.

        Raises:
            CorruptFile: one is missing or damaged.
            UnsafeFile: pickles are not allowed.
        """
        stated = _hyperparameters(folder / CONFIG)
        tensors = read_pickle(folder / WEIGHTS, allowed=settings.allow_pickle, within="model")
        named = {_peft_name(name): tensor for name, tensor in tensors.items()}
        enabled = tuple(bool(stated.get(part)) for part in ENABLED)
        base = stated.get("checkpoint_dir")

        def fit(files: AdapterFiles, base: BaseModel) -> AdapterFiles:
            return fit_names(files, enabled, base)

        return AdapterFiles(
            named,
            {"peft_type": "LORA", "r": stated.get("lora_r"), "lora_alpha": stated.get("lora_alpha")},
            base_name="/".join(Path(base).parts[-2:]) if isinstance(base, str) and base else None,
            fit=fit,
        )


def _hyperparameters(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CorruptFile(f"{path.parent} has {WEIGHTS} but no {CONFIG}.", hint="Bring it along: it says the scale.")
    found = {}
    for name, value in SETTING.findall(read_text(path, MAX_TEXT_BYTES)):
        try:
            found[name] = json.loads(value)
        except (ValueError, RecursionError):
            found[name] = value.strip(" '\"")
    return found


def _peft_name(name: str) -> str:
    for half, end in zip(HALVES, LINEAR, strict=True):
        if name.endswith(half):
            return name.removesuffix(half) + end
    return name


@hookimpl
def adapter_hub_formats() -> list[Format]:
    """The one format here."""
    return [LitGptFolder()]
