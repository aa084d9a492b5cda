"""Format: the adapter that torchtune saves for itself (``adapter_model.pt``), and what its PEFT export gets wrong.

torchtune has Llama's module names of its own and, for the models that it loads with rotary pairs side by side, the rows
of q and k in that order. Its files do not say alpha. Beside ``adapter_model.pt`` it writes a folder for PEFT, in which
(version 0.6.1) the magnitudes of a DoRA keep its own order, and B of a Qwen2, which never was in that order, is put
out of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapter_hub.config import Settings
from adapter_hub.errors import UnsupportedFeature
from adapter_hub.hookspecs import AdapterFiles, Format, hookimpl
from adapter_hub.loading.files import read_pickle
from adapter_hub.loading.peek import peek_names

from .alphas import widened
from .dora import MAGNITUDE
from .fused_pairs import Pair, join_pairs
from .lora import LINEAR
from .row_orders import halves_from_pairs, heads_of, pairs_from_halves, rows_of_parts

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

NATIVE = "adapter_model.pt"
OWN = re.compile(r"(?:layers\.\d+\.(?:attn|mlp)\.\w+|output)\.lora_a\.weight")
NAME = re.compile(r"(layers\.\d+\.)?(?:(attn|mlp)\.)?(\w+)\.(lora_a\.weight|lora_b\.weight|magnitude)")
ENDS = {"lora_a.weight": LINEAR[0], "lora_b.weight": LINEAR[1], "magnitude": MAGNITUDE}
PARTS = {"attn": "self_attn", "mlp": "mlp"}
MODULES = {"output_proj": "o_proj", "w1": "gate_proj", "w2": "down_proj", "w3": "up_proj", "output": "lm_head"}
# The models that torchtune does not put in its own order of rows.
STRAIGHT = ("qwen2", "phi3")
FUSED = {"self_attn.qkv_proj": ("q_proj", "k_proj", "v_proj"), "mlp.gate_up_proj": ("gate_proj", "up_proj")}
EXPORTED = frozenset("r lora_alpha target_modules peft_type base_model_name_or_path".split())


class TorchtuneFile:
    """One pickle."""

    name = "torchtune"

    def detect(self, folder: Path) -> bool:
        """True for a file that names first halves of pairs in torchtune's way."""
        return any(OWN.fullmatch(name) for name in peek_names(folder))

    def files(self, folder: Path) -> tuple[Path, ...]:
        """The file itself."""
        return (folder,)

    def read(self, folder: Path, settings: Settings) -> AdapterFiles:
        """Read the file, with names of transformers' Llama; rows keep their order until there is a base.

        Raises:
            CorruptFile: it is damaged.
            UnsafeFile: pickles are not allowed.
        """
        tensors = read_pickle(folder, allowed=settings.allow_pickle)
        named = {_peft_name(name): tensor for name, tensor in tensors.items()}
        return AdapterFiles(named, {"peft_type": "LORA", "use_dora": is_decomposed(named)}, fit=_fitted)


def is_decomposed(names: Iterable[str]) -> bool:
    """Whether there are magnitudes: no file of torchtune says of a DoRA that it is one."""
    return any(name.endswith(MAGNITUDE) for name in names)


def wrote(config: Mapping[str, Any]) -> bool:
    """Whether torchtune wrote this config for PEFT: PEFT itself always says more."""
    needed = {"r", "lora_alpha", "target_modules"}
    return needed <= config.keys() <= EXPORTED and ("peft_type" not in config or config["peft_type"] == "LORA")


def fit_export(folder: Path, files: AdapterFiles, base: BaseModel) -> AdapterFiles:
    """Put right what torchtune's export for PEFT has in the wrong order.

    ``adapter_model.pt`` beside the export tells that torchtune wrote it; without that, other tools may have.
    """
    straight, sure = _kind(base) in STRAIGHT, (folder / NATIVE).is_file()
    tensors = dict(files.tensors)
    for name, tensor in files.tensors.items():
        heads = _rotary_heads(name, base)
        if heads is not None and name.endswith(MAGNITUDE) and not straight:
            tensors[name] = halves_from_pairs(tensor, heads, name)
        elif heads is not None and name.endswith(LINEAR[1]) and straight and sure:
            tensors[name] = pairs_from_halves(tensor, heads, name)
    warnings = (
        () if sure or not any(_rotary_heads(name, base) for name in tensors) else _doubts(folder, tensors, straight)
    )
    return replace(files, tensors=tensors, warnings=files.warnings + warnings)


def _doubts(folder: Path, tensors: Iterable[str], straight: bool) -> tuple[str, ...]:
    """What to tell of a config as torchtune writes it where nothing else says that it did."""
    if straight:
        return (
            f"if torchtune wrote {folder}, its q and k are in the wrong order for this base: put the {NATIVE} of the "
            "same training beside it.",
        )
    if is_decomposed(tensors):
        return (f"{folder} has magnitudes and does not say so: it is taken for what torchtune writes.",)
    return ()


def _peft_name(name: str) -> str:
    found = NAME.fullmatch(name)
    if found is None:
        return name
    layer, part, module, end = found.groups()
    head = f"model.{layer}{PARTS[part]}." if layer and part else ""
    return head + MODULES.get(module, module) + ENDS[end]


def _fitted(files: AdapterFiles, base: BaseModel) -> AdapterFiles:
    tensors = dict(files.tensors)
    if _kind(base) not in STRAIGHT:
        for name, tensor in files.tensors.items():
            heads = _rotary_heads(name, base)
            if heads is not None and not name.endswith(LINEAR[0]):
                tensors[name] = halves_from_pairs(tensor, heads, name)
    joined: dict[str, float] = {}
    for path in base.sites:
        for fused, modules in FUSED.items():
            if path.endswith(f".{fused}"):
                _join(tensors, path, [f"{path.rpartition('.')[0]}.{module}" for module in modules], joined, base)
    return replace(files, tensors=tensors, config=widened(files.config, joined))


def _join(tensors: dict[str, Tensor], path: str, parts: list[str], joined: dict[str, float], base: BaseModel) -> None:
    """Take the pairs of parts out, and put the pair of the fused module in."""
    pairs: list[Pair | None] = []
    for part in parts:
        A, B = (tensors.pop(part + half, None) for half in LINEAR)
        if part + MAGNITUDE in tensors:
            raise UnsupportedFeature(
                f"tensor {part}{MAGNITUDE}: this base has {path} in one, whose magnitudes are not those of its parts.",
                hint="Train it without DoRA.",
            )
        pairs.append(None if A is None or B is None else (A, B))
    given = [pair for pair in pairs if pair is not None]
    if given:
        A, B = join_pairs(path, pairs, _rows_of(path, len(parts), base))
        tensors |= {path + LINEAR[0]: A, path + LINEAR[1]: B}
        joined[path] = A.shape[0] / given[0][0].shape[0]


def _rows_of(path: str, parts: int, base: BaseModel) -> list[int]:
    rows = base.sites[path].out_features
    return [rows // 2, rows // 2] if parts == 2 else rows_of_parts(rows, heads_of(base))


def _rotary_heads(name: str, base: BaseModel) -> int | None:
    """How many heads the rows of a tensor are for, if they are rotated."""
    module = name.partition(".self_attn.")[2].partition(".")[0]
    if module not in ("q_proj", "k_proj"):
        return None
    heads = heads_of(base)
    return heads.queries if module == "q_proj" else heads.keys


def _kind(base: BaseModel) -> Any:
    return getattr(base.model.config, "model_type", None)


@hookimpl
def adapter_hub_formats() -> list[Format]:
    """The one format here."""
    return [TorchtuneFile()]
