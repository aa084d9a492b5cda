"""Format: the folder that MLX-LM's trainer writes (``adapters.safetensors`` beside ``adapter_config.json``).

The config has PEFT's file name and other meanings: ``scale`` is multiplied as it stands, not divided by the rank, and
both factors lie the other way round, A [in, r] and B [r, out].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapter_hub.config import Settings
from adapter_hub.errors import CorruptFile, FormatError, UnsupportedFeature
from adapter_hub.hookspecs import AdapterFiles, Format, hookimpl
from adapter_hub.loading.files import read_json, read_safetensors

from .alphas import alpha_settings
from .dora import MAGNITUDE
from .lora import EMBEDDING, LINEAR
from .tuned_weights import NAME as TUNED

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

CONFIG, WEIGHTS, STEP_WEIGHTS = "adapter_config.json", "adapters.safetensors", "_adapters.safetensors"
HALVES, VECTOR = (".lora_a", ".lora_b"), ".m"
CONVERSIONS = "mlx-community/"


class MlxFolder:
    """The folder, or the weights of one step in it. Three tools share the config's name, so the content decides."""

    name = "mlx"

    def detect(self, folder: Path) -> bool:
        """True if the config has a field that only MLX-LM's has."""
        path = _config_of(folder)
        if path is None:
            return False
        try:
            return _is_mlx(read_json(path))
        except FormatError:
            return False

    def files(self, folder: Path) -> tuple[Path, ...]:
        """Config and weights."""
        weights = folder if folder.is_file() else folder / WEIGHTS
        return tuple(path for path in (weights.parent / CONFIG, weights) if path.is_file())

    def read(self, folder: Path, settings: Settings) -> AdapterFiles:
        """Read both.

        Raises:
            CorruptFile: one is missing or damaged.
            UnsupportedFeature: it is a kind of tuning that is not known here.
        """
        weights = folder if folder.is_file() else folder / WEIGHTS
        config = read_json(weights.parent / CONFIG)
        kind = config.get("fine_tune_type", "lora")
        if kind not in ("lora", "dora", "full"):
            raise UnsupportedFeature(f"fine_tune_type={kind!r} in {weights.parent / CONFIG} is not known here.")
        if not weights.is_file():
            raise CorruptFile(f"{folder} has {CONFIG} but no {WEIGHTS}.", hint="The download or save is incomplete.")
        tensors = read_safetensors(weights)
        base, warnings = _base_name(config)
        if kind == "full":
            return AdapterFiles(tensors, {"variant": TUNED}, base_name=base, warnings=warnings)
        named = _peft_names(tensors, decomposed=kind == "dora")
        settings_ = {"peft_type": "LORA", "use_dora": kind == "dora", **_alphas(config, named, weights.parent)}
        return AdapterFiles(named, settings_, base_name=base, warnings=warnings, fit=_fitted)


def _config_of(path: Path) -> Path | None:
    """The config that belongs to a folder, or to a file of weights in one."""
    if path.name.endswith((WEIGHTS, STEP_WEIGHTS)) and path.is_file():
        path = path.parent
    return path / CONFIG if (path / CONFIG).is_file() else None


def _is_mlx(config: Mapping[str, Any]) -> bool:
    return "peft_type" not in config and ("fine_tune_type" in config or "lora_parameters" in config)


def _base_name(config: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    name = config.get("model")
    if not isinstance(name, str) or not name:
        return None, ()
    if name.startswith(CONVERSIONS):
        return None, (
            f"it was trained on {name}, a conversion whose original is not recorded: check that it is yours.",
        )
    return name, ()


def _alphas(config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Any]:
    """The scale as alphas: alpha is the scale times the rank, which a variant divides by again."""
    parameters = config.get("lora_parameters")
    scale = parameters.get("scale") if isinstance(parameters, dict) else None
    if not isinstance(scale, int | float) or isinstance(scale, bool):
        raise UnsupportedFeature(
            f"{folder / CONFIG} has no number for scale in lora_parameters.", hint="Write the scale of the training."
        )
    ends = (LINEAR[0], EMBEDDING[0])
    ranks = {name.removesuffix(end): t.shape[0] for name, t in tensors.items() for end in ends if name.endswith(end)}
    return alpha_settings({module: scale * rank for module, rank in ranks.items()})


def _peft_names(tensors: Mapping[str, Tensor], *, decomposed: bool) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        half = next((half for half in HALVES if name.endswith(half)), None)
        if half is not None:
            if tensor.dim() != 2:
                raise UnsupportedFeature(
                    f"tensor {name} is {list(tensor.shape)}: pairs stacked over experts are not read from MLX.",
                    hint="Train the attention's modules alone.",
                )
            named[name.removesuffix(half) + LINEAR[HALVES.index(half)]] = tensor.T.contiguous()
        elif decomposed and name.endswith(VECTOR):
            named[name.removesuffix(VECTOR) + MAGNITUDE] = tensor
        else:
            named[name] = tensor
    return named


def _fitted(files: AdapterFiles, base: BaseModel) -> AdapterFiles:
    """Pairs at the base's embeddings under their own names, and at a tied head too, where MLX applies them as well."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in files.tensors.items():
        module, half = name, None
        for half_ in LINEAR:
            if name.endswith(half_):
                module, half = name.removesuffix(half_), half_
        site = base.sites.get(module)
        if half is None or site is None or site.kind != "embedding":
            tensors[name] = tensor
            continue
        if files.config.get("use_dora"):
            raise UnsupportedFeature(
                f"tensor {name}: MLX has a magnitude for each token of an embedding, where DoRA has one a channel.",
                hint="Train it without the embedding.",
            )
        tensors[module + EMBEDDING[LINEAR.index(half)]] = tensor
        if (head := base.head_tied_to(module)) is not None:
            tensors[head + LINEAR[1 - LINEAR.index(half)]] = tensor.T.contiguous()
    return replace(files, tensors=tensors)


@hookimpl
def adapter_hub_formats() -> list[Format]:
    """The one format here."""
    return [MlxFolder()]
