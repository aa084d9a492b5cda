"""LoRA on a mixture's experts, as PEFT stores it for either generation of transformers' models.

Since transformers 5 the experts' weights lie stacked, [E, out, in], and PEFT wraps each targeted stack of a module in
turn, the module's first innermost: ``experts.base_layer.lora_A.weight`` [E r, in] lies within
``experts.lora_A.weight``. Rows of A count experts first, columns of B [out, r E] count ranks first.

Before, each expert had linears of its own (``experts.3.w1``), and their pairs are put into the stacks they became.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.updates import ExpertsUpdate, ParameterUpdate, SiteUpdate

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel, Site

A_END, B_END = ".lora_A.weight", ".lora_B.weight"
INNER = ".base_layer"
STACKS = {"gate_up_proj": "up", "up_proj": "up", "down_proj": "down"}
# One expert's linear in the models of before: its place in the stack of now, of halves where two became one.
SINGLE = re.compile(r"(.+\.experts)\.(\d{1,6})\.(w1|w2|w3|gate_proj|up_proj|down_proj)")
PLACES = {"w1": ("up", 0), "gate_proj": ("up", 0), "w3": ("up", 1), "up_proj": ("up", 1)}
OLD, NEW = ".block_sparse_moe.", ".mlp."


class ScaleAt(Protocol):
    """The constant in front of a pair."""

    def at(self, path: str, rank: int) -> float:
        """By module and rank."""
        ...


def take_experts(
    tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], scale: ScaleAt, base: BaseModel
) -> dict[str, SiteUpdate]:
    """Take the pairs of all stacked parameters out of ``tensors``, as updates by site."""
    wrapped: dict[str, list[str]] = {}
    single: dict[str, list[str]] = {}
    for name in tensors:
        if not name.endswith(A_END):
            continue
        given = name.removesuffix(A_END)
        site = base.sites.get(given)
        if site is not None and site.kind != "other":
            continue  # nearly every pair there is
        found = SINGLE.fullmatch(given)
        if found is not None and site is None:
            single.setdefault(_now(found[1], base), []).append(given)
        elif _is_stacked(_now(bare_path(given), base), base):
            wrapped.setdefault(_now(bare_path(given), base), []).append(given)
    both = wrapped.keys() & single.keys()
    if both:
        raise CorruptFile(f"{min(both)} has pairs of both generations of its model.", hint="Save the adapter again.")
    updates = {path: _stacks(base.site(path), given, tensors, config, scale, base) for path, given in wrapped.items()}
    return updates | {path: _singles(base.site(path), given, tensors, scale) for path, given in single.items()}


def _stacks(
    site: Site,
    given: list[str],
    tensors: MutableMapping[str, Tensor],
    config: Mapping[str, Any],
    scale: ScaleAt,
    base: BaseModel,
) -> SiteUpdate:
    """The update of a module whose parameters were targeted by name."""
    # Routers of before were linears, targeted by no parameter's name; what has one matrix leaves no doubt.
    wanted = config.get("target_parameters") or [name for name, shape in site.parameters.items() if len(shape) > 1]
    if not isinstance(wanted, list):
        raise UnsupportedFeature("the config's target_parameters is no list of names.", hint="Save the adapter again.")
    targeted = [name for name in site.parameters if any(f".{site.path}.{name}".endswith(f".{want}") for want in wanted)]
    outer_first = sorted(given, key=len)
    if len(targeted) != len(given) or any(_depth(path) != k for k, path in enumerate(outer_first)):
        raise CorruptFile(
            f"there are {len(given)} pairs for the module {site.path}, of which the config's target_parameters name "
            f"{len(targeted)} parameters.",
            hint="The file is incomplete, or for another version of its base.",
        )
    parts: dict[str, Tensor] = {}
    for name, path in zip(reversed(targeted), outer_first, strict=True):
        A, B = _take_pair(path, tensors)
        shape = site.parameters[name]
        experts = shape[0] if len(shape) == 3 else 1
        if not len(A) or len(A) % experts or len(A) != B.shape[1]:
            raise ShapeMismatch(
                f"tensors {path}{A_END} {list(A.shape)} and {B_END} {list(B.shape)} are no pairs of {experts} experts.",
                hint="The adapter was trained on a model of another shape.",
            )
        rank = len(A) // experts
        B = folded(B, scale.at(f"{site.path}.{name}", rank))
        if len(shape) != 3:
            parts[name] = _changed(site, name, A, B, base)
            continue
        if name not in STACKS:
            raise UnsupportedFeature(f"tensor {path}{A_END} changes {site.path}.{name}, which is no weight of experts.")
        parts[f"A_{STACKS[name]}"] = A.view(experts, rank, -1)
        parts[f"B_{STACKS[name]}"] = B.view(len(B), rank, experts).permute(2, 0, 1).contiguous()
    if parts.keys() <= site.parameters.keys():
        return ParameterUpdate(parts)
    return ExpertsUpdate(**parts)


def _singles(site: Site, given: list[str], tensors: MutableMapping[str, Tensor], scale: ScaleAt) -> SiteUpdate:
    """The update of a module from pairs of single experts' linears; experts without one get zeros."""
    pairs: dict[str, dict[int, dict[int, tuple[Tensor, Tensor]]]] = {"up": {}, "down": {}}
    for path in given:
        found = SINGLE.fullmatch(path)
        assert found is not None
        A, B = _take_pair(path, tensors)
        if not len(A) or len(A) != B.shape[1]:
            raise ShapeMismatch(f"tensors {path}{A_END} {list(A.shape)} and {B_END} {list(B.shape)} make no product.")
        stack, half = PLACES.get(found[3], ("down", 0))
        of_expert = pairs[stack].setdefault(int(found[2]), {})
        if half in of_expert:
            raise CorruptFile(f"tensor {path}{A_END} is given twice, under another name.", hint="Save it again.")
        of_expert[half] = (A, folded(B, scale.at(path, len(A))))
    parts = {}
    for name, shape in site.parameters.items():
        stack = STACKS.get(name, "")
        if pairs.get(stack):
            halves = 2 if name == "gate_up_proj" else 1
            parts[f"A_{stack}"], parts[f"B_{stack}"] = _stacked(site, name, shape, halves, pairs[stack])
    if {field[2:] for field in parts} != {stack for stack in pairs if pairs[stack]}:
        raise UnsupportedFeature(f"site {site.path}: its experts are not stacked as gate_up_proj and down_proj.")
    return ExpertsUpdate(**parts)


def _stacked(
    site: Site, name: str, shape: tuple[int, ...], halves: int, pairs: Mapping[int, Mapping[int, tuple[Tensor, Tensor]]]
) -> tuple[Tensor, Tensor]:
    """A [E, r, in] and B [E, out, r], where the pairs of an expert's halves stand beside each other."""
    experts, outputs, inputs = shape
    rank = max(sum(len(A) for A, _ in of_expert.values()) for of_expert in pairs.values())
    stacked_A, stacked_B = torch.zeros(experts, rank, inputs), torch.zeros(experts, outputs, rank)
    for expert, of_expert in pairs.items():
        begin = 0
        for half, (A, B) in of_expert.items():
            if expert >= experts or A.shape[1] != inputs or len(B) * halves != outputs:
                raise ShapeMismatch(
                    f"site {site.path}: the pair {list(A.shape)}, {list(B.shape)} of expert {expert} does not fit "
                    f"{name}, which is {list(shape)}.",
                    hint="The adapter was trained on a model of another shape.",
                )
            end = begin + len(A)
            stacked_A[expert, begin:end] = A
            stacked_B[expert, half * len(B) : (half + 1) * len(B), begin:end] = B
            begin = end
    return stacked_A, stacked_B


def folded(B: Tensor, scale: float) -> Tensor:
    """``scale * B``; in float32, unless it is stored in bfloat16 and the scale is a power of two, which is exact."""
    exact = B.dtype == torch.float32 or (B.dtype == torch.bfloat16 and math.frexp(scale)[0] == 0.5)
    return (B if exact else B.float()) * scale


def _take_pair(path: str, tensors: MutableMapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    A, B = tensors.pop(path + A_END), tensors.pop(path + B_END, None)
    if B is None:
        raise CorruptFile(f"tensor {path}{B_END} is missing beside {path}{A_END}.", hint="The file is incomplete.")
    if A.dim() != 2 or B.dim() != 2 or not (A.is_floating_point() and B.is_floating_point()):
        raise ShapeMismatch(
            f"tensors {path}{A_END} {list(A.shape)} and {B_END} {list(B.shape)} are no pair of matrices."
        )
    return A, B


def _changed(site: Site, name: str, A: Tensor, B: Tensor, base: BaseModel) -> Tensor:
    """A small parameter, a router's say, with its pair in it."""
    if (len(B), A.shape[1]) != site.parameters[name]:
        raise ShapeMismatch(
            f"site {site.path}: the pair {list(A.shape)}, {list(B.shape)} does not fit {name}, which is "
            f"{list(site.parameters[name])}.",
            hint="The adapter was trained on a model of another shape.",
        )
    return base.parameter(site.path, name).detach().float().cpu() + B.float() @ A.float()


def bare_path(path: str) -> str:
    """A module's path without PEFT's wrappers around it."""
    while path.endswith(INNER):
        path = path.removesuffix(INNER)
    return path


def _depth(path: str) -> int:
    return (len(path) - len(bare_path(path))) // len(INNER)


def _now(path: str, base: BaseModel) -> str:
    """Where a module of before is now."""
    return path if path in base.sites else path.replace(OLD, NEW)


def _is_stacked(path: str, base: BaseModel) -> bool:
    site = base.sites.get(path)
    return site is not None and site.kind == "other"
