"""Format: the folder of AdapterHub's library ``adapters`` (``adapter.safetensors`` or ``pytorch_adapter.bin``).

Its ``adapter_config.json`` has PEFT's file name; what it is stands in a table ``config`` within. Read are LoRA, with
decomposed weights too, and IA3. Its DoRA is not the paper's (version 1.3.0, ``LoRALinear.forward``): the norm is that
of ``W + B A`` without the scale, and the bias is scaled as well:

    y = m / ||W + B A|| * (W x + b + s B A x)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.config import Settings
from adapter_hub.errors import CorruptFile, FormatError, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import AdapterFiles, Format, hookimpl
from adapter_hub.loading.files import read_json, read_pickle, read_safetensors

from .alphas import widened
from .dora import MAGNITUDE
from .fused_pairs import Pair, join_pairs, split_pair
from .lora import BIAS, LINEAR
from .peft_settings import is_number

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter.safetensors", "pytorch_adapter.bin"
NAME = re.compile(r"(.+)\.loras\.([^.]+)\.(lora_A|lora_B|m\.weight)")
ENDS = {"lora_A": LINEAR[0], "lora_B": LINEAR[1], "m.weight": MAGNITUDE}
VECTOR = ".ia3_l"
# Until this version the scale was left out of the product, so that what was trained is an adapter of scale 1.
SCALED_SINCE = (1, 1, 0)
VERSION = re.compile(r"adapters\.(\d+)\.(\d+)\.(\d+)")
UNREAD = {
    "use_gating": "a gate in place of the scale",
    "vera_d": "its own form of VeRA",
    "vera_b": "its own form of VeRA",
}
LETTERS = ("q", "k", "v")


class AdapterHubFolder:
    """Config and weights. Three tools share the config's name, so the content decides."""

    name = "adapterhub"

    def detect(self, folder: Path) -> bool:
        """True if the config has a table ``config``, as only this library writes it."""
        path = folder / CONFIG
        try:
            found = read_json(path) if path.is_file() else {}
        except FormatError:
            return False
        return isinstance(found.get("config"), dict) and "peft_type" not in found

    def files(self, folder: Path) -> tuple[Path, ...]:
        """Config and weights, those that are there."""
        weights = WEIGHTS if (folder / WEIGHTS).is_file() else PICKLE
        return tuple(folder / name for name in (CONFIG, weights) if (folder / name).is_file())

    def read(self, folder: Path, settings: Settings) -> AdapterFiles:
        """Read both.

        Raises:
            CorruptFile: one is missing or damaged.
            UnsafeFile: the weights are a pickle and those are not allowed.
            UnsupportedFeature: it is a kind of adapter that is not read.
        """
        config = read_json(folder / CONFIG)
        inner = config["config"]
        _hold_known(inner, folder)
        tensors = _read_weights(folder, settings)
        model_type = config.get("model_type")
        common: dict[str, Any] = {
            "base_name": config.get("model_name") if isinstance(config.get("model_name"), str) else None,
            "model_types": (model_type,) if isinstance(model_type, str) else (),
        }
        if inner.get("composition_mode") == "scale":
            vectors = _scaled_vectors(tensors, inner, folder)
            return AdapterFiles(vectors, {"peft_type": "IA3"}, **common)
        named = _peft_names(tensors, ENDS, folder)
        alpha = _alpha(inner, config.get("version"))
        lora = {"peft_type": "LORA", "lora_alpha": alpha, "use_dora": bool(inner.get("use_dora"))}

        def fit(files: AdapterFiles, base: BaseModel) -> AdapterFiles:
            return _fitted(files, inner, base)

        return AdapterFiles(named, lora, **common, fit=fit)


def _hold_known(inner: Mapping[str, Any], folder: Path) -> None:
    if inner.get("architecture") != "lora":
        raise UnsupportedFeature(
            f"{folder / CONFIG} is of architecture {inner.get('architecture')!r}, which is not served.",
            hint="LoRA and IA3 are read.",
        )
    for name, what in UNREAD.items():
        if inner.get(name):
            raise UnsupportedFeature(f"{folder / CONFIG} has {name}={inner[name]!r}, {what}, which is not served.")


def _read_weights(folder: Path, settings: Settings) -> dict[str, Tensor]:
    if (folder / WEIGHTS).is_file():
        return read_safetensors(folder / WEIGHTS)
    if (folder / PICKLE).is_file():
        return read_pickle(folder / PICKLE, allowed=settings.allow_pickle)
    raise CorruptFile(f"{folder} has {CONFIG} but no {WEIGHTS}.", hint="The download or the save is incomplete.")


def _alpha(inner: Mapping[str, Any], version: object) -> Any:
    """Alpha as it was trained with: earlier versions of the library left the scale out."""
    found = VERSION.match(version) if isinstance(version, str) else None
    if found is not None and tuple(map(int, found.groups())) < SCALED_SINCE:
        return inner.get("r")
    return inner.get("alpha")


def _peft_names(tensors: Mapping[str, Tensor], ends: Mapping[str, str], folder: Path) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        found = NAME.fullmatch(name)
        if found is None or found[3] not in ends:
            raise UnsupportedFeature(f"tensor {name} of {folder} is none that this kind of adapter has.")
        path = found[1] + ends[found[3]]
        if path in named:
            raise CorruptFile(f"{folder} gives {path} twice (once as {name}).", hint="Save the adapters one by one.")
        named[path] = tensor.flatten() if ends[found[3]] == MAGNITUDE else tensor
    return named


def _scaled_vectors(tensors: Mapping[str, Tensor], inner: Mapping[str, Any], folder: Path) -> dict[str, Tensor]:
    """IA3's vectors, [out, 1]. Alpha multiplies them; it is 1 unless somebody chose otherwise."""
    alpha = inner.get("alpha", 1)
    if not is_number(alpha):
        raise UnsupportedFeature(f"{folder / CONFIG} has alpha={alpha!r}, which is no number.")
    named = _peft_names(tensors, {"lora_B": VECTOR}, folder)
    return {name: tensor if alpha == 1 else tensor * alpha for name, tensor in named.items()}


def _fitted(files: AdapterFiles, inner: Mapping[str, Any], base: BaseModel) -> AdapterFiles:
    tensors = dict(files.tensors)
    joined: dict[str, float] = {}
    for path in [name.removesuffix(LINEAR[0]) for name in files.tensors if name.endswith(LINEAR[0])]:
        A, B = tensors[path + LINEAR[0]], tensors.get(path + LINEAR[1])
        site = base.sites.get(path)
        if B is None or site is None or A.dim() != 2 or B.dim() != 2:
            continue  # the variant says what is wrong with it
        if path + MAGNITUDE in tensors:
            _restate(tensors, path, files.config["lora_alpha"], base)
        elif B.shape[0] != site.out_features or A.shape[0] != B.shape[1]:
            letters = inner.get("attn_matrices")
            enabled = [isinstance(letters, list) and letter in letters for letter in LETTERS]
            tensors |= _fused(path, (A, B), enabled, site.out_features // len(LETTERS))
            joined[path] = float(sum(enabled))
    return replace(files, tensors=tensors, config=widened(files.config, joined))


def _fused(path: str, pair: Pair, enabled: list[bool], rows: int) -> dict[str, Tensor]:
    """The pair of a module that holds q, k and v in one, of which some were trained, each with its own factors."""
    parts = iter(split_pair(path, pair, [rows] * sum(enabled)) if any(enabled) else [])
    A, B = join_pairs(path, [next(parts, None) if on else None for on in enabled], [rows] * len(enabled))
    return {path + LINEAR[0]: A, path + LINEAR[1]: B}


def _restate(tensors: dict[str, Tensor], path: str, alpha: Any, base: BaseModel) -> None:
    """Say this library's DoRA in the terms of the paper's.

    With n = ||W + B A|| and n' = ||W + s B A||: m' = m n' / n gives the same factor c = m / n, and a bias of
    (c - 1) b / (c s) in the pair's branch, which is multiplied with c s, gives the bias its own c.
    """
    A, B = (tensors[path + half].float() for half in LINEAR)
    W, m = base.dense_weight(path).cpu(), tensors[path + MAGNITUDE].float()
    if not is_number(alpha) or not alpha or W.shape != (B.shape[0], A.shape[1]) or m.shape != W.shape[:1]:
        raise ShapeMismatch(
            f"the tensors of {path} are {list(A.shape)}, {list(B.shape)} and {list(m.shape)} with alpha={alpha!r}, "
            f"the base's weight is {list(W.shape)}.",
            hint="The adapter was trained on a model of another shape.",
        )
    scale, norm = alpha / A.shape[0], torch.linalg.vector_norm(W + B @ A, dim=1)
    tensors[path + MAGNITUDE] = m * torch.linalg.vector_norm(W + scale * B @ A, dim=1) / norm
    if "bias" in base.sites[path].parameters:
        factor = m / norm
        tensors[path + BIAS] = (factor - 1) / (factor * scale) * base.parameter(path, "bias").float().cpu()


@hookimpl
def adapter_hub_formats() -> list[Format]:
    """The one format here."""
    return [AdapterHubFolder()]
