"""Variant: VeRA (Kopiczko et al. 2023, arXiv 2310.11454, equation 2).

    y = W x + diag(b) B diag(d) A x

A and B are random, frozen, and one pair for all sites: each site takes their top left corner. An adapter owns
the vectors d and b alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Lowered, SiteSummary, Summary, Variant, hookimpl
from adapter_hub.updates import LinearUpdate, SiteUpdate

from .peft_settings import is_whole, unknown_settings
from .peft_variant import hold_targets_present

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

MID, BRANCH = ".vera_lambda_d", ".vera_lambda_b"
PROJECTIONS = ("vera_A", "vera_B")
KNOWN = frozenset("r projection_prng_key save_projection vera_dropout d_initial".split())


class Vera:
    """Vectors around one shared pair of projections, stored in the file or drawn again from its key."""

    name = "vera"

    def matches(self, config: Mapping[str, Any]) -> bool:
        """PEFT's VERA."""
        return config.get("peft_type") == "VERA"

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """The rank of each site's vector d."""
        sites = {name.removesuffix(MID): SiteSummary(t.numel()) for name, t in tensors.items() if name.endswith(MID)}
        return Summary(sites, "none: the vectors are the scale", tuple(_refusals(tensors, config)))

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """``mid_scale`` = d, ``branch_scale`` = b, ``A`` and ``B`` views of the shared pair."""
        refused = _refusals(tensors, config)
        if refused:
            raise UnsupportedFeature(refused[0])
        vectors = _take_vectors(tensors, base)
        A, B = _take_projections(tensors, config, vectors, base)
        updates: dict[str, SiteUpdate] = {}
        for path, (d, b) in vectors.items():
            site = base.site(path)
            updates[path] = LinearUpdate(
                A=A[:, : site.in_features], B=B[: site.out_features], mid_scale=d, branch_scale=b
            )
        return Lowered(updates, shared=(A, B))


def _take_vectors(tensors: MutableMapping[str, Tensor], base: BaseModel) -> dict[str, tuple[Tensor, Tensor]]:
    vectors = {}
    for name in [name for name in tensors if name.endswith(MID)]:
        path = name.removesuffix(MID)
        if path + BRANCH not in tensors:
            raise CorruptFile(f"tensor {path}{BRANCH} is missing beside {name}.", hint="The file is incomplete.")
        if base.site(path).kind != "linear":
            raise UnsupportedFeature(f"tensor {name} changes {path}, which is no linear in this base.")
        vectors[path] = (tensors.pop(name), tensors.pop(path + BRANCH))
    if not vectors:
        raise CorruptFile(f"there is no tensor *{MID} in the file.", hint="The file is incomplete.")
    return vectors


def _take_projections(
    tensors: MutableMapping[str, Tensor],
    config: Mapping[str, Any],
    vectors: Mapping[str, tuple[Tensor, Tensor]],
    base: BaseModel,
) -> tuple[Tensor, Tensor]:
    sites = [base.site(path) for path in vectors]
    largest_in = max((site.in_features for site in sites), default=0)
    largest_out = max((site.out_features for site in sites), default=0)
    A, B = (tensors.pop(name, None) for name in PROJECTIONS)
    if A is None or B is None:
        _hold_drawable(config, vectors, base)
        A, B = draw_projections(config, largest_in, largest_out)
    if A.dim() != 2 or B.dim() != 2 or A.shape[1] < largest_in or B.shape[0] < largest_out:
        raise ShapeMismatch(
            f"tensors vera_A {list(A.shape)} and vera_B {list(B.shape)} are too small for sites of {largest_in} inputs "
            f"and {largest_out} outputs.",
            hint="The adapter was trained on a model of another shape.",
        )
    return A, B


def _hold_drawable(config: Mapping[str, Any], vectors: Mapping[str, tuple[Tensor, Tensor]], base: BaseModel) -> None:
    """What is drawn depends on the rank and on the largest sites, so neither may be another than in training."""
    for path, (d, _) in vectors.items():
        if d.shape != (config["r"],):
            raise ShapeMismatch(f"tensor {path}{MID} is {list(d.shape)}, the config's r is {config['r']}.")
    hold_targets_present(config, set(vectors), base)


def draw_projections(config: Mapping[str, Any], largest_in: int, largest_out: int) -> tuple[Tensor, Tensor]:
    """The pair that PEFT draws from ``projection_prng_key``: A [r, in] first, then B [out, r].

    Uniform by Kaiming's rule with gain sqrt(2), over the generator of a CPU, for the largest sites adapted.
    """
    generator = torch.Generator("cpu").manual_seed(config["projection_prng_key"])
    rank = config["r"]

    def draw(rows: int, columns: int) -> Tensor:
        bound = math.sqrt(3.0) * math.sqrt(2.0) / math.sqrt(columns)
        return torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)

    return draw(rank, largest_in), draw(largest_out, rank)


def _refusals(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> list[str]:
    found = unknown_settings(config, KNOWN)
    stored = [name for name in PROJECTIONS if name in tensors]
    if not stored and not (is_whole(config.get("r")) and is_whole(config.get("projection_prng_key"))):
        found.append("the file holds no projections and the config no r and projection_prng_key to draw them from.")
    if len(stored) == 1:
        found.append(f"the file holds {stored[0]} alone of the two projections.")
    return found


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Vera()]
