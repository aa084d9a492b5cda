"""Format: a LoRA in GGUF, as llama.cpp's ``convert_lora_to_gguf.py`` writes it and its server reads it.

A file says alpha, and nothing of how it is applied: rsLoRA and alphas by pattern are lost in it. Names and orders of
rows are llama.cpp's own (``gguf_layout``), so they are settled when the base is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapter_hub.config import Settings
from adapter_hub.errors import CorruptFile, UnsupportedFeature
from adapter_hub.hookspecs import AdapterFiles, Format, hookimpl

from .alphas import alpha_settings, renamed_pattern
from .gguf_file import peek_fields, read_gguf
from .gguf_layout import Layout, hold_base, layout_named, names_of, to_base_rows
from .lora import EMBEDDING, LINEAR

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

ARCHITECTURE, TYPE, ADAPTER_TYPE = "general.architecture", "general.type", "adapter.type"
ALPHA, INVOCATION = "adapter.lora.alpha", "adapter.alora.invocation_tokens"
BASES, BASE = "general.base_model.count", "general.base_model.0.repo_url"
HUB = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+)")
# Said by this project's own writer, which keeps A and B as they are where llama.cpp's converter swaps them.
STRAIGHT = "adapter_hub.straight"
HALVES = (".weight.lora_a", ".weight.lora_b")
EMBEDDED = "token_embd"
UNSTATED = {
    "use_rslora": "GGUF does not say whether the scale is alpha / rank or, as in rsLoRA, alpha / sqrt(rank): the first "
    "is taken, as llama.cpp does. If it is an rsLoRA, state use_rslora=true; false ends this warning.",
}


class GgufLora:
    """One file."""

    name = "gguf"

    def detect(self, folder: Path) -> bool:
        """True for a GGUF file that says it is a LoRA."""
        fields = peek_fields(folder, TYPE, ADAPTER_TYPE)
        return fields.get(TYPE) == "adapter" and fields.get(ADAPTER_TYPE, "lora") == "lora"

    def files(self, folder: Path) -> tuple[Path, ...]:
        """The file itself."""
        return (folder,)

    def read(self, folder: Path, settings: Settings) -> AdapterFiles:
        """Read the file; names stay llama.cpp's until there is a base.

        Raises:
            CorruptFile: it is damaged.
            UnsupportedFeature: it is for an architecture whose order of rows is not known here.
        """
        fields, tensors = read_gguf(folder)
        layout = layout_named(fields.get(ARCHITECTURE))
        if layout is None:
            raise UnsupportedFeature(
                f"{folder} is for {fields.get(ARCHITECTURE)!r}, and how llama.cpp orders its rows is not known here.",
                hint="Register the adapter in the format that it was trained in.",
            )
        named = _peft_names(tensors, folder)
        config = {"peft_type": "LORA", **_alpha(fields.get(ALPHA), named, folder)}
        if INVOCATION in fields:
            config["alora_invocation_tokens"] = fields[INVOCATION]
        straight = fields.get(STRAIGHT) is True
        if straight:  # written here, with every scale in B
            config["use_rslora"] = False

        def fit(files: AdapterFiles, base: BaseModel) -> AdapterFiles:
            return _fitted(files, layout, base, straight=straight)

        return AdapterFiles(
            named,
            config,
            base_name=_base_name(fields),
            model_types=layout.model_types,
            unstated={} if straight else UNSTATED,
            fit=fit,
        )


def _base_name(fields: Mapping[str, Any]) -> str | None:
    """The one base that is recorded, if it is on the Hub: the converter writes paths of its own machine, too."""
    recorded = fields.get(BASE)
    found = HUB.fullmatch(recorded) if fields.get(BASES) == 1 and isinstance(recorded, str) else None
    return found[1] if found else None


def _peft_names(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Tensors as PEFT names and lays them out, below llama.cpp's names of the modules."""
    named = {}
    for name, tensor in tensors.items():
        half = next((half for half in HALVES if name.endswith(half)), None)
        if half is None:
            named[name] = tensor  # a norm, whole
            continue
        module, which = name.removesuffix(half), HALVES.index(half)
        if tensor.dim() != 2:
            raise UnsupportedFeature(
                f"tensor {name} of {path} is {list(tensor.shape)}: pairs stacked over experts are not read from GGUF.",
                hint="Register the adapter in the format that it was trained in.",
            )
        if module == EMBEDDED:
            named[module + EMBEDDING[which]] = tensor if which else tensor.T.contiguous()
        else:
            named[module + LINEAR[which]] = tensor
    return named


def _alpha(alpha: Any, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Alpha as a config has it. llama.cpp takes 0 for a scale of 1; that is an alpha equal to the rank."""
    if alpha is None:
        return {}
    if not isinstance(alpha, float):
        raise CorruptFile(f"{path} has {ALPHA}={alpha!r}, which is no number.", hint="Convert the adapter again.")
    if alpha:
        return {"lora_alpha": alpha}
    parts = {_split(name): tensor for name, tensor in tensors.items()}
    ranks = {module: float(B.shape[1]) for (module, end), B in parts.items() if end in (LINEAR[1], EMBEDDING[1])}
    return alpha_settings(ranks)


def _fitted(files: AdapterFiles, layout: Layout, base: BaseModel, *, straight: bool) -> AdapterFiles:
    hold_base(layout, base)
    paths = {name: path for path, name in names_of(layout, base).items()}
    swapped = layout.swapped and not straight and _is_swapped(files.tensors, paths, base)
    tensors: dict[str, Tensor] = {}
    for name, tensor in files.tensors.items():
        module, end = _split(name)
        path = paths.get(module, module)
        if end == LINEAR[1] and not swapped:
            tensor = to_base_rows(layout, module, tensor, base)
        elif end in LINEAR and swapped:
            end, tensor = LINEAR[1 - LINEAR.index(end)], tensor.T.contiguous()
        elif end == ".weight" and module.endswith("_norm") and layout.norm_offset:
            tensor = tensor - layout.norm_offset
        tensors[path + end] = tensor
    return replace(files, tensors=tensors, config=renamed_pattern(files.config, lambda name: paths.get(name, name)))


def _is_swapped(tensors: Mapping[str, Tensor], paths: Mapping[str, str], base: BaseModel) -> bool:
    """Whether A and B stand for one another, by the first pair that is for no square matrix; else they do."""
    for name, tensor in tensors.items():
        module, end = _split(name)
        site = base.sites.get(paths.get(module, ""))
        if end == LINEAR[0] and site is not None and site.in_features != site.out_features:
            return tensor.shape[1] == site.out_features
    return True


def _split(name: str) -> tuple[str, str]:
    end = next((end for end in (*LINEAR, *EMBEDDING, ".weight", ".bias") if name.endswith(end)), "")
    return name.removesuffix(end), end


@hookimpl
def adapter_hub_formats() -> list[Format]:
    """The one format here."""
    return [GgufLora()]
