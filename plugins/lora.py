"""Variant: LoRA (Hu et al. 2021, arXiv 2106.09685) and rsLoRA (Kalajdzievski 2023, arXiv 2312.03732).

    y = W x + s B A x,    s = alpha / r,    with rsLoRA alpha / sqrt(r)

QLoRA, LoRA+ and LoRA-FA train such adapters in other ways and store them no differently. LoRA-FA (Zhang et al. 2023,
arXiv 2308.03303) leaves A at its random start, so adapters that began from one seed have every A in common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Lowered, SiteSummary, Summary, Variant, hookimpl
from adapter_hub.updates import EmbeddingUpdate, LinearUpdate, SiteUpdate

from .lora_experts import bare_path, take_experts
from .lora_starts import CONVERT, REBUILT, InitialPairs, start_refusal
from .peft_patterns import PatternTable
from .peft_settings import is_number, unknown_settings
from .trainable_tokens import take_rows

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

LINEAR = (".lora_A.weight", ".lora_B.weight")
EMBEDDING = (".lora_embedding_A", ".lora_embedding_B")
BIAS = ".lora_B.bias"

# Settings that only say how it was trained, or that the tensors' own names and shapes tell better.
KNOWN = frozenset(
    "alpha_pattern corda_config ensure_weight_tying eva_config init_lora_weights loftq_config lora_alpha lora_bias "
    "lora_dropout lora_ga_config megatron_config megatron_core qalora_group_size r rank_pattern target_parameters "
    "trainable_token_indices use_dora use_rslora".split()
)
# What rounding a start to 16 bit may add to its range.
START_MARGIN = 1.005


class Lora:
    """Low-rank pairs at linears and embeddings, with everything that PEFT stores beside them."""

    name = "lora"

    def matches(self, config: Mapping[str, Any]) -> bool:
        """PEFT's LORA without weight decomposition or invocation tokens, which are types of their own."""
        own = config.get("use_dora") or config.get("alora_invocation_tokens")
        return config.get("peft_type") == "LORA" and not own

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """Rank and scale of each site, and the settings that would be refused."""
        ranks, scales, refused = {}, {}, refusals(config)
        for name, tensor in tensors.items():
            path = next((name.removesuffix(end) for end in (LINEAR[0], EMBEDDING[0]) if name.endswith(end)), None)
            if path is not None:
                path = bare_path(path)
                ranks[path] = tensor.shape[0] if tensor.dim() else 0
        if not refused:
            try:
                scale = Scale(config)
                scales = {path: scale.at(path, rank) for path, rank in ranks.items() if rank}
            except UnsupportedFeature as error:
                refused.append(str(error))
        rule = "alpha / sqrt(rank)" if config.get("use_rslora") else "alpha / rank"
        sites = {path: SiteSummary(rank, scales.get(path)) for path, rank in ranks.items()}
        return Summary(sites, rule, tuple(refused))

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """``A``, ``B`` with the scale in it, ``bias``; tables for embeddings; rows for trained tokens."""
        updates = lower_pairs(tensors, config, base)
        return Lowered(updates, shared=_untrained(updates))


def _untrained(updates: Mapping[str, SiteUpdate]) -> tuple[Tensor, ...]:
    """Every A, if none of them has left the range of PEFT's start, as in LoRA-FA; else nothing.

    The start is uniform within 1 / sqrt(in); optimisers move hundreds of thousands of values past that in a few
    steps. No config says LoRA-FA, and to compare the A of every adapter would cost more than loading it.
    """
    found = []
    for update in updates.values():
        if isinstance(update, LinearUpdate) and update.A is not None:
            if update.A.float().abs().max() > START_MARGIN / math.sqrt(update.A.shape[1]):
                return ()
            found.append(update.A)
    return tuple(found)


def lower_pairs(
    tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel
) -> dict[str, SiteUpdate]:
    """Every low-rank pair, and every trained token, of an adapter as updates by site."""
    refused = refusals(config)
    if refused:
        raise UnsupportedFeature(refused[0], hint="`adapter-hub inspect` tells all that is refused in it.")
    scale = Scale(config)
    start = config.get("init_lora_weights")
    initial = InitialPairs(start, base) if start in REBUILT else None
    updates = take_rows(tensors, config.get("trainable_token_indices"), base)
    for path, update in take_experts(tensors, config, scale, base).items():
        if initial is not None:
            raise UnsupportedFeature(f"{path}: init_lora_weights={start!r} of experts is not served. {CONVERT}")
        _put(updates, path, update)
    for name in [name for name in tensors if name.endswith((LINEAR[0], EMBEDDING[0]))]:
        end = LINEAR[0] if name.endswith(LINEAR[0]) else EMBEDDING[0]
        path = name.removesuffix(end)
        _put(updates, path, _pair(path, end, tensors, scale, base, initial))
    return updates


class Scale:
    """The constants in front of ``B A``, by PEFT's rule: the first pattern that matches a site names its alpha.

    Raises:
        UnsupportedFeature: the patterns are not in order.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._alpha = float(config["lora_alpha"])
        self._patterns = PatternTable("alpha_pattern", config.get("alpha_pattern") or {})
        self._root = bool(config.get("use_rslora"))
        self._vectors: dict[tuple[float, int], Tensor] = {}

    def at(self, path: str, rank: int) -> float:
        """The constant at one site."""
        alpha = self._patterns.value_of(path)
        return float(self._alpha if alpha is None else alpha) / (math.sqrt(rank) if self._root else rank)

    def vector(self, scale: float, rank: int) -> Tensor:
        """A constant [rank], one tensor for all sites that have it."""
        if (scale, rank) not in self._vectors:
            self._vectors[scale, rank] = torch.full((rank,), scale)
        return self._vectors[scale, rank]


def _pair(
    path: str,
    end: str,
    tensors: MutableMapping[str, Tensor],
    scales: Scale,
    base: BaseModel,
    initial: InitialPairs | None,
) -> SiteUpdate:
    """Take the two halves of a low-rank pair, and its bias, out of ``tensors``, with the scale folded in."""
    name, other = path + end, path + (LINEAR if end == LINEAR[0] else EMBEDDING)[1]
    site = base.site(path)
    A, B = tensors.pop(name), tensors.pop(other, None)
    if B is None:
        raise CorruptFile(f"tensor {other} is missing beside {name}.", hint="The file is incomplete.")
    if A.dim() != 2 or B.dim() != 2 or not A.numel() or A.shape[0] != B.shape[1]:
        raise ShapeMismatch(
            f"tensors {name} {list(A.shape)} and {other} {list(B.shape)} make no product of rank above 0.",
            hint="One-dimensional or empty tensors are shards of a training run: gather them when saving.",
        )
    if (site.kind == "embedding") != (end == EMBEDDING[0]) or site.kind == "other":
        raise UnsupportedFeature(f"tensor {name} changes {path}, which is no {_expected(end)} in this base.")
    scale = scales.at(path, A.shape[0])
    if end == EMBEDDING[0]:
        if initial is not None:
            raise UnsupportedFeature(f"tensor {name} changes an embedding, which no such start takes anything out of.")
        return EmbeddingUpdate(A=A, B=B.float() * scale, base_vocabulary=site.in_features)
    # PEFT adds the bias of B inside the scaled branch.
    bias = tensors.pop(path + BIAS, None)
    bias = None if bias is None else bias.float() * scale
    if initial is not None:
        first_A, first_B = initial.at(path, A.shape[0], scale)
        return LinearUpdate(
            A=torch.cat([A.float(), first_A]), B=torch.cat([B.float() * scale, -first_B], dim=1), bias=bias
        )
    if B.dtype == torch.float32 or (B.dtype == torch.bfloat16 and math.frexp(scale)[0] == 0.5):
        # alpha / r is a constant of training, so it is multiplied into B once; by a power of two that is exact
        # in bfloat16 as well. In float16 it is not: trained values lie at the bottom of its range.
        return LinearUpdate(A=A, B=B if scale == 1.0 else B.mul_(scale), bias=bias)
    return LinearUpdate(A=A, B=B, mid_scale=scales.vector(scale, A.shape[0]), bias=bias)


def _put(updates: dict[str, SiteUpdate], path: str, update: SiteUpdate) -> None:
    if path in updates:
        raise UnsupportedFeature(
            f"{path} has both trained tokens and a low-rank pair.", hint="Train it in one of the two ways."
        )
    updates[path] = update


def refusals(config: Mapping[str, Any]) -> list[str]:
    """A sentence for each setting with which the pair alone would be computed wrongly."""
    found = []
    if not is_number(config.get("lora_alpha")):
        found.append(
            "the config has no number for lora_alpha, so the scale of the update is not known. If its file does not "
            "say, state it: options={'lora_alpha': N}, or --option lora_alpha=N."
        )
    began = start_refusal(config.get("init_lora_weights"))
    if began is not None:
        found.append(began)
    return found + unknown_settings(config, KNOWN)


def _expected(end: str) -> str:
    return "embedding" if end == EMBEDDING[0] else "linear"


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Lora()]
