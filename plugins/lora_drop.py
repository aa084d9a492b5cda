"""Variant: LoRA-drop (Zhou et al. 2024, arXiv 2402.07721).

    y = W x + s B A x

Layers whose branch matters on a sample of the data keep a pair of their own; the others share one pair (here one
for each kind of module, for their shapes differ). The paper names no file; docs/adapter-format.md does.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Lowered, SiteSummary, Summary, Variant, hookimpl
from adapter_hub.updates import LinearUpdate

from .lora import LINEAR, lower_pairs
from .native_folder import unknown_fields
from .peft_settings import is_number

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

NAME = "lora_drop"
SHARED = "shared."
KNOWN = frozenset("r lora_alpha shared".split())


class LoraDrop:
    """Pairs of their own at some sites, one shared pair at each group of the others."""

    name = NAME

    def matches(self, config: Mapping[str, Any]) -> bool:
        """This project's own format with ``variant: lora_drop``."""
        return config.get("variant") == NAME

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """Rank and scale of every site, those of shared pairs included."""
        refused = _refusals(config)
        sites = {}
        for name, tensor in tensors.items():
            rank = tensor.shape[0] if tensor.dim() else 0
            if name.endswith(LINEAR[0]) and not refused and rank:
                path = name.removesuffix(LINEAR[0])
                for site in config["shared"].get(path.removeprefix(SHARED), [path]):
                    sites[site] = SiteSummary(rank, config["lora_alpha"] / rank)
        return Summary(sites, "alpha / rank", tuple(refused))

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """``A``, ``B`` with the scale in it; shared pairs are the same tensors at all their sites."""
        refused = _refusals(config)
        if refused:
            raise UnsupportedFeature(refused[0])
        shared = {group: _take_shared(tensors, group, config) for group in config["shared"]}
        updates = lower_pairs(tensors, {"lora_alpha": config["lora_alpha"]}, base)
        for group, paths in config["shared"].items():
            for path in paths:
                if path in updates:
                    raise CorruptFile(f"{path} has a pair of its own and shares that of {group!r}.", hint="Save again.")
                if base.site(path).kind != "linear":
                    raise UnsupportedFeature(f"the group {group!r} lists {path}, which is no linear in this base.")
                updates[path] = shared[group]
        return Lowered(updates, shared=tuple(t for pair in shared.values() for t in pair.tensors().values()))


def _take_shared(tensors: MutableMapping[str, Tensor], group: str, config: Mapping[str, Any]) -> LinearUpdate:
    names = [SHARED + group + end for end in LINEAR]
    missing = next((name for name in names if name not in tensors), None)
    if missing is not None:
        raise CorruptFile(f"tensor {missing} is missing; the field shared names {group!r}.", hint="Save it again.")
    A, B = (tensors.pop(name) for name in names)
    if A.dim() != 2 or B.dim() != 2 or not A.shape[0] or A.shape[0] != B.shape[1]:
        raise ShapeMismatch(
            f"tensors {names[0]} {list(A.shape)} and {names[1]} {list(B.shape)} make no product of rank above 0.",
            hint="The file is damaged.",
        )
    return LinearUpdate(A=A, B=B.float() * (config["lora_alpha"] / A.shape[0]))


def _refusals(config: Mapping[str, Any]) -> list[str]:
    found = unknown_fields(config, KNOWN)
    if not is_number(config.get("lora_alpha")):
        found.append("the config has no number for lora_alpha, so the scale of the update is not known.")
    shared = config.get("shared")
    if not isinstance(shared, Mapping) or not all(_is_group(name, paths) for name, paths in shared.items()):
        found.append("the field shared is no table of group names and lists of module names.")
    return found


def _is_group(name: str, paths: object) -> bool:
    return "." not in name and isinstance(paths, list) and all(isinstance(path, str) for path in paths)


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [LoraDrop()]
