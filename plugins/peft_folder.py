"""Format: the folder that PEFT writes (``adapter_config.json`` beside ``adapter_model.safetensors``).

A trainer's checkpoint is such a folder too; its optimizer and random states are never opened. Weights may be in shards
with an index, or a pickle.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapter_hub.config import Settings
from adapter_hub.errors import CorruptFile, FormatError
from adapter_hub.hookspecs import AdapterFiles, Format, hookimpl
from adapter_hub.loading.files import read_index, read_json, read_pickle, read_safetensors, read_shards, read_text

from . import torchtune

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
INDEX = "adapter_model.safetensors.index.json"
PICKLE = "adapter_model.bin"
CHAT_TEMPLATE = "chat_template.jinja"
TOKENIZER = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json")
TOKENIZER_EXTRAS = ("added_tokens.json", "vocab.json", "merges.txt", CHAT_TEMPLATE)

# What training frameworks put in front of a module's name, outermost first.
WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod|_fsdp_wrapped_module)\.")
# ``lora_A.default.weight``: a raw state dict keeps the adapter's name behind the method's parameter.
ADAPTER_NAME = re.compile(
    r"((?:\.|^)(?:lora_[a-zA-Z_]+|vera_[a-zA-Z_]+|trainable_tokens_delta))\.(?!weight$|bias$)[^.]+(?=$|\.weight$|\.bias$)"
)
PLAIN_START, PLAIN_ENDS = "base_model.model.", (".lora_A.weight", ".lora_B.weight")
BASE_LAYER = re.compile(r"\.base_layer(?=\.(?:weight|bias)$)")


class PeftFolder:
    """PEFT's own layout. Three tools share its config's file name, so the content decides."""

    name = "peft"

    def detect(self, folder: Path) -> bool:
        """True if the folder's ``adapter_config.json`` is one of PEFT's, or is too damaged to tell."""
        path = folder / CONFIG
        if not path.is_file():
            return False
        try:
            config = read_json(path)
        except FormatError:
            return True  # reading it then says what is wrong with the file
        return "peft_type" in config or torchtune.wrote(config)

    def files(self, folder: Path) -> tuple[Path, ...]:
        """Config, weights, tokenizer and chat template, those that are there."""
        names = (CONFIG, *_weights(folder), torchtune.NATIVE, *TOKENIZER, *TOKENIZER_EXTRAS)
        return tuple(folder / name for name in names if (folder / name).is_file())

    def read(self, folder: Path, settings: Settings) -> AdapterFiles:
        """Read config, tensors, tokenizer and chat template.

        Raises:
            CorruptFile: a file is missing, damaged, or gives one tensor twice.
            UnsafeFile: the weights are a pickle and those are not allowed.
        """
        config = read_json(folder / CONFIG)
        weights, tensors = _read_weights(folder, settings)
        template = folder / CHAT_TEMPLATE
        named = _module_names(tensors, weights)
        fit = None
        if torchtune.wrote(config):
            config = {"peft_type": "LORA", "use_dora": torchtune.is_decomposed(named), **config}

            def fit(files: AdapterFiles, base: BaseModel) -> AdapterFiles:
                return torchtune.fit_export(folder, files, base)

        return AdapterFiles(
            tensors=named,
            config=config,
            base_name=_text(config, "base_model_name_or_path"),
            base_revision=_text(config, "revision"),
            tokenizer=folder if any((folder / name).is_file() for name in TOKENIZER[:2]) else None,
            chat_template=read_text(template) if template.is_file() else None,
            fit=fit,
        )


def _weights(folder: Path) -> tuple[str, ...]:
    """Names of the files that hold the weights: one, or an index and what it lists."""
    if (folder / WEIGHTS).is_file():
        return (WEIGHTS,)
    if not (folder / INDEX).is_file():
        return (PICKLE,)
    try:
        return (INDEX, *sorted(set(read_index(folder / INDEX).values())))
    except FormatError:
        return (INDEX,)  # reading it then says what is wrong with the file


def _read_weights(folder: Path, settings: Settings) -> tuple[Path, dict[str, Tensor]]:
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS, read_safetensors(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return folder / INDEX, read_shards(folder / INDEX)
    if (folder / PICKLE).is_file():
        return folder / PICKLE, read_pickle(folder / PICKLE, allowed=settings.allow_pickle)
    raise CorruptFile(f"{folder} has {CONFIG} but no {WEIGHTS}.", hint="The download or the save is incomplete.")


def _module_names(tensors: dict[str, Tensor], weights: Path) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        module_name = module_name_of(name)
        if module_name in named:
            raise CorruptFile(
                f"{weights} gives {module_name} twice (once as {name}).",
                hint="It seems to hold several adapters; save them one by one.",
            )
        named[module_name] = tensor
    return named


def module_name_of(name: str) -> str:
    """A tensor's name after the base's module, without what PEFT and training frameworks put around it."""
    if name.startswith(PLAIN_START) and name.endswith(PLAIN_ENDS) and ".module." not in name and "._" not in name:
        return name.removeprefix(PLAIN_START)  # nearly every name there is, at a tenth of the time
    name = WRAPPERS.sub("", name)
    name = name.removeprefix("base_model.model.").removeprefix("base_model.")
    name = ADAPTER_NAME.sub(r"\1", name)
    # The adapted module's own parameters lie one level down, beside the adapter's.
    return BASE_LAYER.sub("", name) if ".base_layer." in name else name


def _text(config: dict[str, Any], key: str) -> str | None:
    value = config.get(key)
    return value if isinstance(value, str) and value else None


@hookimpl
def adapter_hub_formats() -> list[Format]:
    """The one format here."""
    return [PeftFolder()]
