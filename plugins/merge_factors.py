"""Merge methods that combine what adapters store: A with A, B with B, and dense changes of W with each other.

For low-rank pairs as PEFT does it: with s the constant of an adapter's scale and w its weight, both factors are
combined with the weight sqrt(|w s|), whose sign goes to A. The product of two such sums is not the sum of the
products (``cat`` is), and only factors of one rank can be combined. Dense changes (Delta-LoRA, tuned weights) are task
vectors in the sense of the papers. Biases, embedding rows and replaced parameters are added with their weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from adapter_hub.errors import UnsupportedFeature
from adapter_hub.hookspecs import Contribution, Merged, MergeMethod, SiteToMerge, hookimpl
from adapter_hub.updates import EmbeddingUpdate, LinearUpdate, ParameterUpdate, SiteUpdate, weight_change, weighted_sum
from adapter_hub.updates.linear import unpack_signs
from adapter_hub.updates.low_rank import factors
from adapter_hub.updates.sums import own_bias

from .task_vectors import ARITHMETICS, Arithmetic

WAY_OUT = "The method cat sums adapters of any ranks and forms; svd and the methods that end in _svd merge them too."


class Factors:
    """One arithmetic over what is stored."""

    def __init__(self, name: str, arithmetic: Arithmetic, help: str) -> None:
        self.name = name
        self.help = f"of the factors of adapters of one rank: {help}"
        self.options: Mapping[str, str] = arithmetic.options
        self._arithmetic = arithmetic

    def bind(self, options: Mapping[str, Any]) -> Callable[[SiteToMerge], Merged]:
        """The merge of a site under a density and a way to elect signs."""
        arithmetic = self._arithmetic.under(options)

        def merge(site: SiteToMerge) -> Merged:
            if all(isinstance(one.update, ParameterUpdate) for one in site.parents):
                return Merged(_added(site, site.parents))
            split = [_split(self.name, site, one) for one in site.parents]
            pairs = [pair for pair, _, _ in split if pair is not None]
            dense = [change for _, change, _ in split if change is not None]
            rest = [left for _, _, left in split if left is not None]
            parts: list[SiteUpdate] = []
            if pairs:
                parts.append(self._pair(site, pairs, arithmetic))
            if dense:
                changes, weights = zip(*dense, strict=True)
                parts.append(LinearUpdate(D=arithmetic.combine(changes, weights, site.generator)))
            if rest:
                parts.append(_added(site, rest))
            return Merged(weighted_sum(site.path, [(1.0, part) for part in parts], site.base))

        return merge

    def _pair(self, site: SiteToMerge, pairs: Sequence[Contribution], arithmetic: Arithmetic) -> SiteUpdate:
        ranks = {len(one.update.tensors()["A"]) for one in pairs}
        if len(ranks) > 1:
            told = ", ".join(f"{one.adapter} has rank {len(one.update.tensors()['A'])}" for one in pairs)
            raise UnsupportedFeature(
                f"site {site.path}: the method {self.name} combines factors of one rank, and {told}.", hint=WAY_OUT
            )
        A, B, roots, signs = [], [], [], []
        for one in pairs:
            assert isinstance(one.update, LinearUpdate | EmbeddingUpdate)
            scale = one.scale or 1.0
            own_A, own_B = factors(one.update)
            A.append(own_A)
            B.append(own_B / scale)
            roots.append(math.sqrt(abs(one.weight * scale)))
            signs.append(math.copysign(1.0, one.weight * scale))
        weights_A = [root * sign for root, sign in zip(roots, signs, strict=True)]
        fields: dict[str, Any] = {
            "A": arithmetic.combine(A, weights_A, site.generator),
            "B": arithmetic.combine(B, roots, site.generator),
        }
        if isinstance(pairs[0].update, EmbeddingUpdate):
            return EmbeddingUpdate(**fields, base_vocabulary=site.base.site(site.path).in_features)
        return LinearUpdate(**fields)


Split = tuple[Contribution | None, tuple[Tensor, float] | None, Contribution | None]


def _split(method: str, site: SiteToMerge, one: Contribution) -> Split:
    """A parent's low-rank pair, its dense change with its weight, and what is left of it, those that it has."""
    update = one.update
    if isinstance(update, EmbeddingUpdate):
        if update.out_scale is not None:
            raise _scaled(method, site, one)
        return (one if update.A is not None else None), None, _left(one, replace(update, A=None, B=None))
    if isinstance(update, LinearUpdate) and not _is_replaced(update):
        if update.out_scale is not None or update.in_scale is not None:
            raise _scaled(method, site, one)
        dense = update.D
        if update.signs is not None and update.sign_scale is not None:
            signs = unpack_signs(update.signs, site.base.site(site.path).in_features) * update.sign_scale.unsqueeze(1)
            dense = signs if dense is None else dense.float() + signs
        rest = LinearUpdate(bias=update.bias, row_ids=update.row_ids, rows=update.rows)
        return (
            (one if update.A is not None else None),
            (None if dense is None else (dense, one.weight)),
            _left(one, rest),
        )
    base, path = site.base, site.path
    if base.site(path).kind != "linear":
        raise UnsupportedFeature(
            f"site {path}: what {one.adapter} does there has no factors for {method} to combine.", hint=WAY_OUT
        )
    change, bias = weight_change(
        update, base.dense_weight(path).cpu(), own_bias(path, base), path=path, module=base.module(path)
    )
    return None, (change, one.weight), _left(one, LinearUpdate(bias=bias))


def _is_replaced(update: LinearUpdate) -> bool:
    """Whether W is silenced and another weight stands in its place, as whole saved and tuned modules have it."""
    return update.D is not None and update.out_scale is not None and not update.out_scale.any()


def _left(one: Contribution, rest: SiteUpdate) -> Contribution | None:
    return replace(one, update=rest) if rest.tensors() else None


def _added(site: SiteToMerge, parents: Sequence[Contribution]) -> SiteUpdate:
    return weighted_sum(site.path, [(one.weight, one.update) for one in parents], site.base)


def _scaled(method: str, site: SiteToMerge, one: Contribution) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"site {site.path}: the method {method} combines low-rank factors and dense changes, and {one.adapter} "
        "scales the base's weight.",
        hint=WAY_OUT,
    )


@hookimpl
def adapter_hub_merge_methods() -> list[MergeMethod]:
    """One method for each arithmetic."""
    return [Factors(name, arithmetic, help) for name, (arithmetic, help) in ARITHMETICS.items()]
