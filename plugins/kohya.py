"""Format: pairs as kohya's scripts name them: ``lora_down``, ``lora_up`` and an ``alpha`` for each module.

The dots of a module's path are written as ``_``, which paths have of their own too, so a module is looked up among
those of the base. The scale is alpha / rank, module by module; without alpha, or with 0, it is 1.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from adapter_hub.config import Settings
from adapter_hub.errors import CorruptFile, UnsupportedFeature
from adapter_hub.hookspecs import AdapterFiles, Format, hookimpl
from adapter_hub.loading.peek import peek_names

from .alphas import alpha_settings, renamed_pattern
from .base_names import BaseNames
from .lora import LINEAR
from .state_dict import read_tensors

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"


class Kohya:
    """One safetensors file, or a pickle where those are allowed."""

    name = "kohya"

    def detect(self, folder: Path) -> bool:
        """True for a file that names first halves of pairs in kohya's way."""
        return any(name.endswith(DOWN) for name in peek_names(folder))

    def files(self, folder: Path) -> tuple[Path, ...]:
        """The file itself."""
        return (folder,)

    def read(self, folder: Path, settings: Settings) -> AdapterFiles:
        """Read the file; modules keep its names until there is a base.

        Raises:
            CorruptFile: it is damaged, or an alpha is no number.
            UnsafeFile: it is a pickle and those are not allowed.
            UnsupportedFeature: it holds more than pairs of matrices.
        """
        tensors = read_tensors(folder, settings)
        named, alphas = {}, {}
        for name, tensor in tensors.items():
            module, end = _split(name, folder)
            if end == ALPHA:
                alphas[module] = _number(tensor, name, folder)
            else:
                named[module + LINEAR[end == UP]] = _matrix(tensor, name)
        ranks = {n.removesuffix(LINEAR[0]): t.shape[0] for n, t in named.items() if n.endswith(LINEAR[0])}
        wanted = {module: alphas.get(module) or float(rank) for module, rank in ranks.items()}
        return AdapterFiles(named, {"peft_type": "LORA", **alpha_settings(wanted)}, fit=_fitted)


def _split(name: str, path: Path) -> tuple[str, str]:
    end = next((end for end in (DOWN, UP, ALPHA) if name.endswith(end)), None)
    if end is None:
        raise UnsupportedFeature(
            f"tensor {name} of {path} is none of a pair's, and what it does is not known here.",
            hint="Pairs of lora_down and lora_up with an alpha are read.",
        )
    return name.removesuffix(end), end


def _number(tensor: Tensor, name: str, path: Path) -> float:
    if tensor.numel() != 1 or tensor.is_complex():
        raise CorruptFile(f"tensor {name} of {path} is {list(tensor.shape)}, and no number.")
    return float(tensor)


def _matrix(tensor: Tensor, name: str) -> Tensor:
    """A pair's half as a matrix; a 1x1 convolution stands for one."""
    if tensor.dim() == 4 and tensor.shape[2:] == (1, 1):
        return tensor[:, :, 0, 0].contiguous()
    if tensor.dim() != 2:
        raise UnsupportedFeature(
            f"tensor {name} is {list(tensor.shape)}: convolutions are no part of a language model."
        )
    return tensor


def _fitted(files: AdapterFiles, base: BaseModel) -> AdapterFiles:
    names = BaseNames(base.sites)
    tensors: dict[str, Tensor] = {}
    for name, tensor in files.tensors.items():
        end = LINEAR[name.endswith(LINEAR[1])]
        found = names.find(name.removesuffix(end)) + end
        if found in tensors:
            raise CorruptFile(f"tensor {found} is given twice (once as {name}).", hint="Save the adapter again.")
        tensors[found] = tensor
    return replace(files, tensors=tensors, config=renamed_pattern(files.config, names.find))


@hookimpl
def adapter_hub_formats() -> list[Format]:
    """The one format here."""
    return [Kohya()]
