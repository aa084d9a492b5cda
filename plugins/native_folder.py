"""Format: this project's own folder, for adapter types that no other tool has a file for.

``adapter.json`` beside ``adapter.safetensors``; tensors are named after the base's modules. Described in
docs/adapter-format.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from adapter_hub.config import Settings
from adapter_hub.errors import CorruptFile, FormatError, UnsupportedFeature
from adapter_hub.hookspecs import AdapterFiles, Format, hookimpl
from adapter_hub.loading.files import read_json, read_safetensors, read_text

from .peft_folder import CHAT_TEMPLATE, TOKENIZER, TOKENIZER_EXTRAS

CONFIG = "adapter.json"
WEIGHTS = "adapter.safetensors"
FORMAT, VERSION = "adapter_hub", 1
# Of every variant; ``facts`` is a table for people (how it was trained, what a compression lost) and changes nothing.
COMMON = frozenset("format format_version variant base_model_name_or_path revision facts".split())


class NativeFolder:
    """One JSON object and one safetensors file, and a tokenizer and chat template where the adapter has its own."""

    name = "adapter_hub"

    def detect(self, folder: Path) -> bool:
        """True if the folder's ``adapter.json`` says so, or is too damaged to tell beside such weights."""
        path = folder / CONFIG
        if not path.is_file():
            return False
        try:
            return read_json(path).get("format") == FORMAT
        except FormatError:
            return (folder / WEIGHTS).is_file()

    def files(self, folder: Path) -> tuple[Path, ...]:
        """The two files, tokenizer and chat template, those that are there."""
        names = (CONFIG, WEIGHTS, *TOKENIZER, *TOKENIZER_EXTRAS)
        return tuple(folder / name for name in names if (folder / name).is_file())

    def read(self, folder: Path, settings: Settings) -> AdapterFiles:
        """Read them all.

        Raises:
            CorruptFile: one is missing or damaged.
            UnsupportedFeature: a later version of the format wrote them.
        """
        config = read_json(folder / CONFIG)
        if config.get("format_version") != VERSION:
            raise UnsupportedFeature(
                f"{folder / CONFIG} has format_version {config.get('format_version')!r}; {VERSION} is read here.",
                hint="A newer adapter_hub may read it.",
            )
        template = folder / CHAT_TEMPLATE
        if not (folder / WEIGHTS).is_file():
            raise CorruptFile(f"{folder} has {CONFIG} but no {WEIGHTS}.", hint="The download or save is incomplete.")
        return AdapterFiles(
            tensors=read_safetensors(folder / WEIGHTS),
            config=config,
            base_name=_text(config, "base_model_name_or_path"),
            base_revision=_text(config, "revision"),
            tokenizer=folder if any((folder / name).is_file() for name in TOKENIZER[:2]) else None,
            chat_template=read_text(template) if template.is_file() else None,
        )


def write_folder(folder: Path, variant: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write an adapter of ``variant`` in this format into ``folder``, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    head = {"format": FORMAT, "format_version": VERSION, "variant": variant}
    text = json.dumps({**head, **config}, indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def unknown_fields(config: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    """A sentence for each field that is neither common nor among ``known``."""
    return [
        f"the field {name} of {CONFIG} is not known to this variant, and may change the mathematics."
        for name in config
        if name not in COMMON and name not in known
    ]


def _text(config: Mapping[str, Any], key: str) -> str | None:
    value = config.get(key)
    return value if isinstance(value, str) and value else None


@hookimpl
def adapter_hub_formats() -> list[Format]:
    """The one format here."""
    return [NativeFolder()]
