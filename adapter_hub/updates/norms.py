"""How large a change is: norms of what an update makes of a site's parameters, beside those of the base's own."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UnsupportedFeature
from .dense import merged_table, merged_weight
from .embedding import EmbeddingUpdate
from .experts import ExpertsUpdate
from .linear import LinearUpdate
from .low_rank import factors, is_low_rank, norm, product_norm
from .parameters import ParameterUpdate
from .site import SiteUpdate
from .sums import Frozen

_BIAS = frozenset({"bias"})


def change_norm(path: str, update: SiteUpdate, base: Frozen) -> float:
    """Frobenius norm of ``(W' - W, b' - b0)`` at a site; rows that the update adds count whole.

    A low-rank product is never made: its norm comes from two small Gram matrices. Nor is W asked for where the change
    does not depend on it.

    Raises:
        UnsupportedFeature: the update is no change of parameters, or the base's cannot be read as numbers.
    """
    if isinstance(update, ParameterUpdate):
        own = {name: _floating(path, name, base) for name in update.parameters}
        return _joint(norm(new.to(own[name].device).float() - own[name]) for name, new in update.parameters.items())
    if isinstance(update, ExpertsUpdate):
        pairs = ((update.A_up, update.B_up), (update.A_down, update.B_down))
        return _joint(_stacked_norm(A, B) for A, B in pairs if A is not None and B is not None)
    if isinstance(base.module(path), nn.Embedding):
        return _table_norm(path, update, base)
    return _linear_norm(path, update, base)


def base_norm(path: str, base: Frozen) -> float:
    """Frobenius norm of all of a site's own parameters, a 4-bit weight as what it stands for.

    Raises:
        UnsupportedFeature: they cannot be read as numbers.
    """
    site = base.site(path)
    is_linear = bool(site.in_features) and not isinstance(base.module(path), nn.Embedding)
    rest = [name for name in site.parameters if not (is_linear and name == "weight")]
    own = [norm(_floating(path, name, base)) for name in rest]
    return _joint([*own, norm(base.dense_weight(path))] if is_linear else own)


def _linear_norm(path: str, update: SiteUpdate, base: Frozen) -> float:
    if isinstance(update, LinearUpdate):
        own = _without_weight(update, base.site(path).in_features)
        if own is not None:
            return own
    W = base.dense_weight(path)
    b = base.parameter(path, "bias").detach().float() if "bias" in base.site(path).parameters else None
    moved = update.map_tensors(lambda tensor: tensor.to(W.device))
    new, new_bias = merged_weight(moved, W, b, path=path, module=base.module(path))
    changed = [norm(new - F.pad(W, (0, 0, 0, len(new) - len(W))))]
    if new_bias is not None:
        changed.append(norm(new_bias if b is None else new_bias - F.pad(b, (0, len(new_bias) - len(b)))))
    return _joint(changed)


def _without_weight(update: LinearUpdate, num_inputs: int) -> float | None:
    """The norm of a change that does not depend on W; None where it does, or where parts of it overlap."""
    given = update.tensors().keys() - _BIAS
    bias = 0.0 if update.bias is None else norm(update.bias)
    if not given:
        return bias
    if is_low_rank(update, beside=_BIAS):
        return _joint((product_norm(*factors(update)), bias))
    if given == {"D"} and update.D is not None:
        return _joint((norm(update.D), bias))
    if given == {"signs", "sign_scale"} and update.sign_scale is not None:
        return _joint((norm(update.sign_scale) * math.sqrt(num_inputs), bias))
    return None


def _table_norm(path: str, update: SiteUpdate, base: Frozen) -> float:
    if isinstance(update, EmbeddingUpdate) and is_low_rank(update):
        return product_norm(*factors(update))
    table = _floating(path, "weight", base)
    moved = update.map_tensors(lambda tensor: tensor.to(table.device))
    new = merged_table(moved, table, path=path, module=base.module(path))
    return norm(new - F.pad(table, (0, 0, 0, len(new) - len(table))))


def _stacked_norm(A: Tensor, B: Tensor) -> float:
    """Of the products ``B[e] A[e]`` of all experts together."""
    A, B = A.double(), B.double()
    squared = ((B.transpose(1, 2) @ B) * (A @ A.transpose(1, 2))).sum()
    return float(squared.clamp_min(0).sqrt())


def _floating(path: str, name: str, base: Frozen) -> Tensor:
    found = base.parameter(path, name).detach()
    if not found.is_floating_point():
        raise UnsupportedFeature(f"site {path}: the base holds {name} packed, which cannot be read as numbers here.")
    return found.float()


def _joint(norms: Iterable[float]) -> float:
    return math.hypot(*norms)
