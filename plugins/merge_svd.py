"""Merge methods over the whole change of each weight, of which the nearest product of a rank is kept.

Every form of update has such a change: of adapters that scale W (DoRA, IA3) or rotate it, it takes the base's weight
to tell. As PEFT's ``svd`` and ``*_svd``, without the clamping of singular vectors: it depends on their signs, which are
any algorithm's own choice. Biases, embedding rows and replaced parameters are added with their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from adapter_hub.errors import RequestError, UnsupportedFeature
from adapter_hub.hookspecs import Merged, MergeMethod, SiteToMerge, hookimpl
from adapter_hub.updates import (
    EmbeddingUpdate,
    LinearUpdate,
    ParameterUpdate,
    SiteUpdate,
    merged_table,
    weight_change,
    weighted_sum,
)
from adapter_hub.updates.low_rank import best_pair, factors, is_low_rank, norm, product_norm, shorter_pair
from adapter_hub.updates.sums import own_bias, own_table, total

from .task_vectors import ARITHMETICS, Arithmetic

RANK = {"rank": "rank that is kept at each site; left out, the largest of the adapters"}
BIAS = frozenset({"bias"})


class Svd:
    """One arithmetic over whole changes."""

    def __init__(self, name: str, arithmetic: Arithmetic, help: str) -> None:
        self.name = name
        self.help = f"of the whole change of each weight, in a rank of choice: {help}"
        self.options: Mapping[str, str] = arithmetic.options | RANK
        self._arithmetic = arithmetic

    def bind(self, options: Mapping[str, Any]) -> Callable[[SiteToMerge], Merged]:
        """The merge of a site under a rank, a density and a way to elect signs."""
        arithmetic, rank = self._arithmetic.under(options), options.get("rank")
        if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool) or rank < 1):
            raise RequestError(f"rank is {rank!r}.", hint="Give a whole number above 0.")

        def merge(site: SiteToMerge) -> Merged:
            if all(isinstance(one.update, ParameterUpdate) for one in site.parents):
                return Merged(weighted_sum(site.path, [(one.weight, one.update) for one in site.parents], site.base))
            kept = rank or self._rank_of(site)
            if arithmetic == Arithmetic() and all(is_low_rank(one.update, beside=BIAS) for one in site.parents):
                return _shortened(site, kept)
            return _nearest(site, kept, arithmetic)

        return merge

    def _rank_of(self, site: SiteToMerge) -> int:
        """The largest rank there is, as long as every parent has one."""
        for one in site.parents:
            if not is_low_rank(one.update, beside=BIAS):
                raise UnsupportedFeature(
                    f"site {site.path}: what {one.adapter} does there has no rank of its own.",
                    hint=f"Name the rank that {self.name} shall keep, or use the method cat.",
                )
        return site.largest_rank


def _shortened(site: SiteToMerge, rank: int) -> Merged:
    """Of a sum of low-rank pairs no dense matrix is made."""
    summed = weighted_sum(site.path, [(one.weight, one.update) for one in site.parents], site.base)
    assert isinstance(summed, LinearUpdate | EmbeddingUpdate)
    A, B = factors(summed)
    short_A, short_B, lost = shorter_pair(A, B, rank)
    update = _pair(site, short_A, short_B, summed.bias if isinstance(summed, LinearUpdate) else None)
    return Merged(update, product_norm(A, B), lost)


def _nearest(site: SiteToMerge, rank: int, arithmetic: Arithmetic) -> Merged:
    weights = [one.weight for one in site.parents]
    changes, biases = zip(*(_change(site, one.update) for one in site.parents), strict=True)
    change = arithmetic.combine(changes, weights, site.generator)
    A, B = best_pair(change, min(rank, *change.shape))
    moved = [(weight, bias) for weight, bias in zip(weights, biases, strict=True) if bias is not None]
    return Merged(_pair(site, A, B, total(moved) if moved else None), norm(change), norm(change - B @ A))


def _change(site: SiteToMerge, update: SiteUpdate) -> tuple[Tensor, Tensor | None]:
    """What an update adds to the weight [out, in] and to the bias; for a table, to its transpose [dim, vocab]."""
    path, base = site.path, site.base
    if base.site(path).kind != "embedding":
        return weight_change(
            update, base.dense_weight(path).cpu(), own_bias(path, base), path=path, module=base.module(path)
        )
    own = own_table(path, base)
    new = merged_table(update, own, path=path, module=base.module(path))
    if len(new) != len(own):
        raise UnsupportedFeature(
            f"site {path}: tokens that an adapter adds are no change of the base's table.",
            hint="Use the method cat: it keeps them.",
        )
    return (new - own).T, None


def _pair(site: SiteToMerge, A: Tensor, B: Tensor, bias: Tensor | None) -> SiteUpdate:
    if site.base.site(site.path).kind == "embedding":
        return EmbeddingUpdate(A=A, B=B, base_vocabulary=site.base.site(site.path).in_features)
    return LinearUpdate(A=A, B=B, bias=bias)


@hookimpl
def adapter_hub_merge_methods() -> list[MergeMethod]:
    """``svd`` for the plain sum, and one method for each other arithmetic."""
    return [
        Svd("svd" if name == "linear" else f"{name}_svd", arithmetic, help)
        for name, (arithmetic, help) in ARITHMETICS.items()
    ]
