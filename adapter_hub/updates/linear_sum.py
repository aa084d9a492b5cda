"""The exact weighted sum of updates of a linear site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import ShapeMismatch, UnsupportedFeature
from .dense import merged_weight, weight_change
from .linear import LinearUpdate, unpack_signs
from .site import num_rows
from .sums import Frozen, mean_rows, own_bias, total, total_weight, union

Linears = Sequence[tuple[float, LinearUpdate]]


def sum_linears(path: str, parts: Linears, base: Frozen) -> LinearUpdate:
    """``weighted_sum`` for updates that are all in the canonical form of a linear.

    Raises:
        ShapeMismatch: the parts add different numbers of outputs.
        UnsupportedFeature: rows that are replaced and a bias, or new tokens and scales, meet.
    """
    if _scales_meet(parts):
        parts = [(w, _without_scales(path, update, base)) for w, update in parts]
    site = base.site(path)
    widths = {max(site.out_features, num_rows(update.D)) for _, update in parts}
    if len(widths) > 1:
        raise ShapeMismatch(
            f"site {path}: the adapters give it {' and '.join(map(str, sorted(widths)))} outputs.",
            hint="Adapters that add tokens can be composed with others that add as many.",
        )
    fields: dict[str, Any] = _side_by_side([(w, u) for w, u in parts if u.A is not None])
    for name in ("out_scale", "in_scale"):
        given = [(w, tensor.float()) for w, u in parts if (tensor := getattr(u, name)) is not None]
        fields[name] = 1 + total((w, scale - 1) for w, scale in given) if given else None
    biases = [(w, u.bias.float()) for w, u in parts if u.bias is not None]
    fields["bias"] = total(biases) if biases else None
    fields |= _sum_dense(parts, site.in_features)
    if num_rows(fields["D"]) > site.out_features:
        _mean_beyond(fields, site.out_features, total_weight(path, [w for w, _ in parts]))
    summed = LinearUpdate(**fields)
    if any(update.rows is not None for _, update in parts):
        return _with_rows(path, parts, summed, base)
    return summed


def _scales_meet(parts: Linears) -> bool:
    """Whether outputs and inputs are both scaled: ``diag(s) W diag(t)`` is no sum of one of each."""
    scaled = {name for _, u in parts for name in ("out_scale", "in_scale") if getattr(u, name) is not None}
    return len(scaled) > 1


def _without_scales(path: str, update: LinearUpdate, base: Frozen) -> LinearUpdate:
    """The same effect with the scales of W, and of its bias, written out as a dense change."""
    if update.out_scale is None and update.in_scale is None:
        return update
    scales = LinearUpdate(out_scale=update.out_scale, in_scale=update.in_scale)
    if num_rows(update.D) > base.site(path).out_features:
        raise UnsupportedFeature(f"site {path}: adapters that add tokens and adapters that scale it have no sum.")
    change, moved = weight_change(scales, base.dense_weight(path).cpu(), own_bias(path, base), path=path)
    dense = change if update.D is None else change + update.D.float()
    given = [(1.0, bias.float()) for bias in (update.bias, moved) if bias is not None]
    return replace(update, out_scale=None, in_scale=None, D=dense, bias=total(given) if given else None)


def _side_by_side(parts: Linears) -> dict[str, Tensor | None]:
    """``sum w_i B_i A_i`` as one pair of the ranks' sum, the weights in its middle: factors stay as stored."""
    if not parts:
        return {}
    if len(parts) == 1:
        (weight, only), *_ = parts
        return {"A": only.A, "B": only.B, "mid_scale": _middle(weight, only), "branch_scale": only.branch_scale}
    A = [u.A for _, u in parts if u.A is not None]
    B = [u.B for _, u in parts if u.B is not None]
    B = [
        matrix if u.branch_scale is None else matrix.float() * u.branch_scale.float().unsqueeze(1)
        for matrix, (_, u) in zip(B, parts, strict=True)
    ]
    middle = torch.cat([_middle(w, u) for w, u in parts])
    return {"A": _joined(A, 0), "B": _joined(B, 1), "mid_scale": None if bool((middle == 1).all()) else middle}


def _middle(weight: float, update: LinearUpdate) -> Tensor:
    assert update.A is not None
    own = torch.ones(len(update.A)) if update.mid_scale is None else update.mid_scale.float()
    return weight * own


def _joined(tensors: Sequence[Tensor], dim: int) -> Tensor:
    wider = tensors[0].dtype
    for tensor in tensors[1:]:
        wider = torch.promote_types(wider, tensor.dtype)
    return torch.cat([tensor.to(wider) for tensor in tensors], dim)


def _sum_dense(parts: Linears, columns: int) -> dict[str, Tensor | None]:
    """Dense changes added up; signs stay bits where only one part has such and nothing dense is beside them."""
    dense = [(w, u.D.float()) for w, u in parts if u.D is not None]
    signed = [(w, u.signs, u.sign_scale.float()) for w, u in parts if u.signs is not None and u.sign_scale is not None]
    if len(signed) == 1:
        (weight, signs, scale), *_ = signed
        return {"D": total(dense) if dense else None, "signs": signs, "sign_scale": weight * scale}
    dense += [(w, unpack_signs(signs, columns) * scale.unsqueeze(1)) for w, signs, scale in signed]
    return {"D": total(dense) if dense else None}


def _mean_beyond(fields: dict[str, Any], known: int, weight: float) -> None:
    for name in ("D", "B", "bias", "sign_scale"):
        tensor = fields.get(name)
        if tensor is not None:
            fields[name] = torch.cat([tensor[:known], (tensor[known:] / weight).to(tensor.dtype)])


def _with_rows(path: str, parts: Linears, summed: LinearUpdate, base: Frozen) -> LinearUpdate:
    """The sum where some parts replace rows of W: these rows of the sum, worked out whole."""
    row_ids = union([u.row_ids for _, u in parts if u.row_ids is not None])
    W, b = base.dense_weight(path).cpu(), own_bias(path, base)
    known = row_ids[row_ids < len(W)]
    own = W[known]
    moved = [(w, merged_weight(_restricted(u, known), own, _at(b, known), path=path)) for w, u in parts]
    offset = torch.zeros(len(known)) if b is None else b[known]
    for weight, (_, bias) in moved:
        offset = offset + weight * ((0 if bias is None else bias) - (0 if b is None else b[known]))
    if bool(offset.any()):
        raise UnsupportedFeature(
            f"site {path}: an adapter replaces rows of a module that has a bias, and rows have no part of it.",
            hint="Serve the adapters one by one.",
        )
    rows = own + total((w, weight - own) for w, (weight, _) in moved)
    beyond = mean_rows(path, row_ids[row_ids >= len(W)], [(w, u.row_ids, u.rows) for w, u in parts])
    return replace(summed, row_ids=row_ids, rows=torch.cat([rows, beyond.to(rows.dtype)]))


def _restricted(update: LinearUpdate, ids: Tensor) -> LinearUpdate:
    """What an update does to some outputs alone, numbered anew."""
    by_output = ("B", "branch_scale", "out_scale", "bias", "D", "signs", "sign_scale")
    cut = {name: tensor[ids] for name in by_output if (tensor := getattr(update, name)) is not None}
    kept = replace(update, **cut, row_ids=None, rows=None)
    if update.row_ids is None or update.rows is None:
        return kept
    mine = torch.isin(update.row_ids, ids)
    where = torch.searchsorted(ids, update.row_ids[mine])
    return replace(kept, row_ids=where, rows=update.rows[mine]) if len(where) else kept


def _at(tensor: Tensor | None, ids: Tensor) -> Tensor | None:
    return None if tensor is None else tensor[ids]
