"""The exact weighted sum of updates, in the canonical form.

With ``effect(u)(x) = u(x) - base(x)``, the sum of weighted updates has the effect ``sum_i w_i effect(u_i)``. Nearly
all of the form is linear in its parts, so the base's weight is seldom needed: low-rank pairs lie side by side, dense
changes add up, and a scale s of the output is a change of ``(s - 1) base(x)``, so scales add up around 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import UnsupportedFeature
from .dense import merged_table, weight_change
from .embedding import EmbeddingUpdate
from .linear import LinearUpdate
from .linear_sum import sum_linears
from .parameters import ParameterUpdate
from .site import SiteUpdate
from .sums import Frozen, own_bias, own_table, total
from .table_sum import sum_tables

Weighted = Sequence[tuple[float, SiteUpdate]]


def weighted_sum(path: str, parts: Weighted, base: Frozen) -> SiteUpdate:
    """The update whose effect is the sum of the parts' effects, each times its weight.

    Rows of tokens that the base does not know have no base to differ from: they are the weighted mean of the
    parts' rows.

    Args:
        path: the site.
        parts: at least one (weight, update); tensors on the CPU.
        base: asked only where the form itself does not tell.

    Raises:
        UnsupportedFeature: a part has no sum with the others; the message names site and reason.
        ShapeMismatch: the parts add different numbers of tokens.
    """
    if len(parts) == 1 and parts[0][0] == 1.0:
        return parts[0][1]
    updates = [update for _, update in parts]
    if all(isinstance(update, ParameterUpdate) for update in updates):
        return _sum_parameters(path, parts, base)
    if isinstance(base.module(path), nn.Embedding):
        return sum_tables(path, [(w, _as_table(path, u, base)) for w, u in parts], base)
    if any(isinstance(update, ParameterUpdate) for update in updates):
        raise UnsupportedFeature(
            f"site {path}: one adapter replaces the module's parameters and another changes what it does.",
            hint="Compose adapters that change it in like ways, or serve them one by one.",
        )
    return sum_linears(path, [(w, _as_linear(path, u, base)) for w, u in parts], base)


def canonical(path: str, update: SiteUpdate, base: Frozen) -> SiteUpdate:
    """The update in the canonical form: as a dense change or a whole table, where its class is another one.

    Raises:
        UnsupportedFeature: it cannot be written in that form.
    """
    if isinstance(update, ParameterUpdate):
        return update
    table = isinstance(base.module(path), nn.Embedding)
    return _as_table(path, update, base) if table else _as_linear(path, update, base)


def _as_linear(path: str, update: SiteUpdate, base: Frozen) -> LinearUpdate:
    """The update in the canonical form: as a dense change, where its class is another one."""
    if isinstance(update, LinearUpdate):
        return update
    change, moved = weight_change(
        update, base.dense_weight(path).cpu(), own_bias(path, base), path=path, module=base.module(path)
    )
    return LinearUpdate(D=change, bias=moved)


def _as_table(path: str, update: SiteUpdate, base: Frozen) -> EmbeddingUpdate:
    if isinstance(update, EmbeddingUpdate):
        return update
    table = merged_table(update, own_table(path, base), path=path, module=base.module(path))
    return EmbeddingUpdate(table=table, base_vocabulary=base.site(path).in_features)


def _sum_parameters(path: str, parts: Weighted, base: Frozen) -> ParameterUpdate:
    names = dict.fromkeys(name for _, update in parts for name in update.tensors())
    summed = {}
    for name in names:
        own = base.parameter(path, name).detach().float().cpu()
        given = [(w, u.tensors()[name].float()) for w, u in parts if name in u.tensors()]
        summed[name] = own + total((w, tensor - own) for w, tensor in given)
    return ParameterUpdate(summed)
