"""Format: the tensors of a LoRA alone, in one file without a config.

Named as PEFT names them (``...lora_A.weight``, with or without its prefixes and the adapter's name) or as older
diffusers did (``...lora.down.weight``). Such a file does not say alpha: the user states it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapter_hub.config import Settings
from adapter_hub.errors import CorruptFile
from adapter_hub.hookspecs import AdapterFiles, Format, hookimpl
from adapter_hub.loading.files import read_pickle, read_safetensors
from adapter_hub.loading.peek import SAFE, peek_names

from .base_names import BaseNames
from .dora import FORMS as MAGNITUDES
from .lora import BIAS, EMBEDDING, LINEAR
from .peft_folder import module_name_of

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

FACTOR = re.compile(
    r"\.lora_A(?:\.[^.]+)?\.weight$|\.lora_embedding_A(?:\.[^.]+)?$|\.lora(?:_linear_layer)?\.down\.weight$"
)
OLD = re.compile(r"\.lora(?:_linear_layer)?\.(down|up)\.weight$")
WHOLE_MODEL, SAVED = ".base_layer.", re.compile(r"\.modules_to_save\.[^.]+(?=\.)")
OWN = ("lora_", ".modules_to_save.")
UNSTATED = {
    "use_rslora": "bare tensors do not say whether the scale is alpha / rank or, as in rsLoRA, alpha / sqrt(rank): the "
    "first is taken. If it is an rsLoRA, state use_rslora=true; false ends this warning."
}


class StateDict:
    """One safetensors file, or a pickle where those are allowed."""

    name = "state_dict"

    def detect(self, folder: Path) -> bool:
        """True for a file that names first halves of pairs in PEFT's way."""
        return any(FACTOR.search(name) for name in peek_names(folder))

    def files(self, folder: Path) -> tuple[Path, ...]:
        """The file itself."""
        return (folder,)

    def read(self, folder: Path, settings: Settings) -> AdapterFiles:
        """Read the file; where the base is known, modules are looked up among its own.

        Raises:
            CorruptFile: it is damaged, or gives a tensor twice.
            UnsafeFile: it is a pickle and those are not allowed.
        """
        tensors = read_tensors(folder, settings)
        whole = any(WHOLE_MODEL in name for name in tensors)  # a dump of all of a model that PEFT has wrapped
        kept = {name: t for name, t in tensors.items() if not whole or any(part in name for part in OWN)}
        named: dict[str, Tensor] = {}
        for name, tensor in kept.items():
            own = _peft_name(name)
            if own in named:
                raise CorruptFile(
                    f"{folder} gives {own} twice (once as {name}).",
                    hint="It seems to hold several adapters; save them one by one.",
                )
            named[own] = tensor
        left = len(tensors) - len(kept)
        warnings = (f"{left} tensors of the base in {folder} are left aside.",) if left else ()
        return AdapterFiles(named, settings_of(named), warnings=warnings, unstated=UNSTATED, fit=with_base_names)


def read_tensors(path: Path, settings: Settings) -> dict[str, Tensor]:
    """The tensors of one file, whatever it is stored as. A trainer's checkpoint has them in a ``state_dict``."""
    if path.name.endswith(SAFE):
        return read_safetensors(path)
    return read_pickle(path, allowed=settings.allow_pickle, within="state_dict")


def settings_of(tensors: Iterable[str]) -> dict[str, Any]:
    """What the names alone say: a LoRA, with decomposed weights or without."""
    return {"peft_type": "LORA", "use_dora": any(name.endswith(MAGNITUDES) for name in tensors)}


def with_base_names(files: AdapterFiles, base: BaseModel) -> AdapterFiles:
    """The same tensors with each module's path in the base, where one can be meant."""
    names = BaseNames(base.sites)
    tensors: dict[str, Tensor] = {}
    for name, tensor in files.tensors.items():
        module, end = split(name)
        found = names.find(module) + end
        if found in tensors:
            raise CorruptFile(f"tensor {found} is given twice (once as {name}).", hint="Save the adapter again.")
        tensors[found] = tensor
    return replace(files, tensors=tensors)


def split(name: str) -> tuple[str, str]:
    """A tensor's module, and what follows it."""
    ends = (*LINEAR, BIAS, *EMBEDDING, *MAGNITUDES, ".weight", ".bias")
    end = next((end for end in ends if name.endswith(end)), "")
    return name.removesuffix(end), end


def _peft_name(name: str) -> str:
    old = OLD.search(name)
    if old is not None:
        name = name[: old.start()] + LINEAR[old[1] == "up"]
    return module_name_of(SAVED.sub("", name))


@hookimpl
def adapter_hub_formats() -> list[Format]:
    """The one format here."""
    return [StateDict()]
