"""Variant: RandLoRA (Albert et al. 2025, arXiv 2502.00987, equation 3).

    y = W x + s sum over j of B_j diag(l_j) A diag(g_j) x,    s = alpha / r

A and the B_j are random, frozen, and one set for all sites; together they have full rank. An adapter owns the vectors
l and g alone, on the smaller side of each weight: where a weight has fewer outputs than inputs, the sum is transposed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Variant, hookimpl
from adapter_hub.updates import SiteUpdate
from adapter_hub.updates.site import is_zero

from .compact_change import CompactChange
from .peft_settings import is_number, is_whole
from .peft_variant import Lowering, ModuleTensors, PeftVariant, adapted_modules, hold_targets_present

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

LAMBDA, GAMMA = ".randlora_lambda", ".randlora_gamma"
BASES = ("randlora_A", "randlora_B")


@dataclass(frozen=True, eq=False, kw_only=True)
class RandomBasesChange(CompactChange):
    """F = sum over j of B_j diag(l_j) A diag(g_j), or its transpose where F has fewer outputs than inputs.

    PEFT pairs the r nb columns of the B_j, which count bases first, with rows that count ranks first. Both are random,
    so that is as good, and it is what adapters were trained with.

    Args:
        small: A [r, min] of min(in, out) columns.
        large: [max, nb r], the B_j side by side.
        weights: l [r, nb], any constant scale folded in.
        gains: g [nb, min]
    """

    small: Tensor
    large: Tensor
    weights: Tensor
    gains: Tensor

    def product(self, x: Tensor) -> Tensor:
        """See ``CompactChange``."""
        small, large, weights, gains = (t.to(x.dtype) for t in (self.small, self.large, self.weights, self.gains))
        bases, least = gains.shape
        rows = x.reshape(-1, x.shape[-1])
        expands = x.shape[-1] == least
        if len(rows) > least:  # then F, once made, is the cheaper way
            product = large @ (weights.unsqueeze(-1) * small.unsqueeze(1) * gains).flatten(0, 1)
            y = rows @ (product.T if expands else product)
        else:
            # So many rows at a time that what lies between is no larger than F.
            parts = rows.split(max(1, len(large) // bases))
            way = _expanded if expands else _reduced
            y = torch.cat([way(part, small, large, weights, gains) for part in parts])
        return y.view(*x.shape[:-1], y.shape[-1])

    def is_zero(self) -> bool:
        """Whether one of the adapter's own vectors is zero."""
        return is_zero(self.weights) or is_zero(self.gains)


def _expanded(x: Tensor, small: Tensor, large: Tensor, weights: Tensor, gains: Tensor) -> Tensor:
    """[rows, min] -> [rows, max]."""
    h = (x.unsqueeze(1) * gains) @ small.T
    return (h.mT * weights).flatten(1) @ large.T


def _reduced(x: Tensor, small: Tensor, large: Tensor, weights: Tensor, gains: Tensor) -> Tensor:
    """[rows, max] -> [rows, min]."""
    h = (x @ large).unflatten(1, weights.shape) * weights
    return ((h.mT @ small) * gains).sum(1)


class RandLora(PeftVariant):
    """Vectors around shared random bases, stored in the file or drawn again from its key."""

    name = "randlora"
    peft_type = "RANDLORA"
    marks = (LAMBDA,)
    known = frozenset(
        "projection_prng_key r randlora_alpha randlora_dropout save_projection sparse very_sparse".split()
    )
    scale_rule = "alpha / r"

    def rank(self, tensor: Tensor) -> int:
        """Rank of each basis; all of them together have full rank."""
        return tensor.shape[0] if tensor.dim() else 0

    def refusals(self, config: Mapping[str, Any]) -> list[str]:
        """What the scale needs."""
        found = super().refusals(config)
        if not is_number(config.get("randlora_alpha")):
            found.append("the config has no number for randlora_alpha, so the scale of the update is not known.")
        return found

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        paths = [path for path, _ in adapted_modules(tensors, self.marks)]
        stored = [_take_stored(tensors, name, paths) for name in BASES]
        if stored[0] is not None and stored[1] is not None:
            return _Bases(stored[0], stored[1], config["randlora_alpha"], drawn=False)
        if any(part is not None for part in stored):
            raise CorruptFile("of the tensors randlora_A and randlora_B the file has one alone.", hint="Save it again.")
        ranks = {len(tensors[path + LAMBDA]) if tensors[path + LAMBDA].dim() else 0 for path in paths}
        if not is_whole(config.get("r")) or not is_whole(config.get("projection_prng_key")) or ranks != {config["r"]}:
            raise UnsupportedFeature(
                f"the file holds no bases, and with the settings r={config.get('r')!r} and projection_prng_key they "
                "cannot be drawn again for its tensors randlora_lambda."
            )
        hold_targets_present(config, set(paths), base)
        sites = [base.site(path) for path in paths]
        sizes = [max(site.in_features for site in sites), max(site.out_features for site in sites)]
        small, large = drawn_bases(config, min(sizes), max(sizes))
        return _Bases(small, large, config["randlora_alpha"], drawn=True)


class _Bases(Lowering):
    def __init__(self, small: Tensor, large: Tensor, alpha: float, *, drawn: bool) -> None:
        self._small = small
        self._large = large
        self._alpha = alpha
        self._drawn = drawn

    def update(self, module: ModuleTensors) -> SiteUpdate:
        least, most = sorted((module.site.in_features, module.site.out_features))
        weights = module.take(LAMBDA, None, None)
        rank, bases = weights.shape
        gains = module.take(GAMMA, bases, least)
        small, large = self._small, self._large
        if small.shape[0] != rank or large.shape[2] != rank or large.shape[1] < bases:
            raise ShapeMismatch(
                f"tensor {module.path}{LAMBDA} is {list(weights.shape)}, for bases {list(small.shape)} and "
                f"{list(large.shape)}.",
                hint="The file is damaged.",
            )
        if small.shape[2] < least or large.shape[0] < most:
            raise ShapeMismatch(
                f"tensors randlora_A {list(small.shape)} and randlora_B {list(large.shape)} are too small for "
                f"{module.path}, of {module.site.in_features} inputs and {module.site.out_features} outputs.",
                hint="The adapter was trained on a model of another shape.",
            )
        return RandomBasesChange(
            small=small[:, 0, :least],
            large=large[:most, :bases].flatten(1),
            weights=weights.float() * (self._alpha / rank),
            gains=gains,
            bias=module.bias_change(),
        )

    def shared(self) -> tuple[Tensor, ...]:
        """The bases."""
        return (self._small, self._large)

    def warnings(self) -> tuple[str, ...]:
        """What PEFT draws depends on the machine, and nobody wrote down on which it was."""
        if not self._drawn:
            return ()
        return (
            "its bases are not in the file and were drawn again, as PEFT draws them on a machine that has bfloat16. "
            "Trained on one that has not, it would need the bases that were saved there (save_projection).",
        )


def _take_stored(tensors: MutableMapping[str, Tensor], name: str, paths: list[str]) -> Tensor | None:
    """A basis, which PEFT writes at the root and again under every module."""
    found = [tensors.pop(key) for key in (name, *(f"{path}.{name}" for path in paths)) if key in tensors]
    if not found:
        return None
    if found[0].dim() != 3 or not found[0].is_floating_point() or (name == BASES[0] and found[0].shape[1] != 1):
        raise ShapeMismatch(f"tensor {name} is {list(found[0].shape)}, no random basis.", hint="The file is damaged.")
    if not all(torch.equal(found[0], other) for other in found[1:]):
        raise CorruptFile(f"tensor {name} is not the same everywhere in the file.", hint="Save the adapter again.")
    return found[0]


def drawn_bases(config: Mapping[str, Any], least: int, most: int) -> tuple[Tensor, Tensor]:
    """The bases A [r, 1, least] and B [most, nb, r] that PEFT draws from ``projection_prng_key``, A first.

    Each has a standard deviation of 1. Uniform values are drawn in bfloat16; sparse ones, of -1, 0 and 1, in float32.
    """
    generator = torch.Generator("cpu").manual_seed(config["projection_prng_key"])
    rank = config["r"]
    bases = -(-least // rank)
    if config.get("sparse") or config.get("very_sparse"):
        tail = 1 / (2 * (math.sqrt(least) if config.get("very_sparse") else 3))

        def signs(*shape: int) -> Tensor:
            drawn = torch.rand(shape, generator=generator)
            return (drawn > 1 - tail).float() - (drawn < tail).float()

        return _normalised(signs(rank, 1, least)), _normalised(signs(most, bases, rank))

    def uniform(*shape: int) -> Tensor:
        # Kaiming's rule with a = sqrt(5), over all but the first dimension.
        bound = math.sqrt(3.0) * (math.sqrt(2.0 / 6.0) / math.sqrt(math.prod(shape[1:])))
        return torch.empty(shape, dtype=torch.bfloat16).uniform_(-bound, bound, generator=generator)

    small = uniform(rank, 1, least)
    return _normalised(small), _normalised(torch.cat([uniform(most, 1, rank) for _ in range(bases)], dim=1))


def _normalised(basis: Tensor) -> Tensor:
    return (basis / basis.std()).float()


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [RandLora()]
