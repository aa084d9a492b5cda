"""An update folded into the weight that it changes: what it comes to as numbers, in float32.

For whoever needs the changed weight itself: an export, a composition, an SVD. The factors path needs none of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import AdapterHubError, UnsupportedFeature
from .embedding import EmbeddingUpdate
from .linear import LinearUpdate, unpack_signs
from .low_rank import factors
from .site import SiteUpdate, num_rows

CHUNK = 1024
TOLERANCE = 1e-3


def merged_weight(
    update: SiteUpdate, weight: Tensor, bias: Tensor | None = None, *, path: str = "", module: Any = None
) -> tuple[Tensor, Tensor | None]:
    """The weight and bias under which a plain linear is the updated one: ``W' x + b' = update(x)``.

    Args:
        update: any update of a linear site. A class of another kind than ``LinearUpdate`` may offer ``merged(weight,
            bias)`` itself; else what it comes to is read off from what it makes of unit vectors.
        weight: W [out, in], dequantised, on the device of the update.
        bias: b0 [out], where the base has one.
        path: name of the site, for errors.
        module: the base's module, for updates of other classes that look at it.

    Returns:
        W' [out', in] and b' [out'] in float32; b' is None where neither the base nor the update has one.

    Raises:
        UnsupportedFeature: the update is no affine function of its input, or adds outputs without weights.
    """
    if isinstance(update, LinearUpdate):
        return _merged_linear(update, weight.float(), bias, path)
    own: Any = getattr(update, "merged", None)
    if own is not None:
        new, moved = own(weight.float(), None if bias is None else bias.float())
        return new, moved
    return _probed(update, weight.float(), bias, path, module)


def weight_change(
    update: SiteUpdate, weight: Tensor, bias: Tensor | None = None, *, path: str = "", module: Any = None
) -> tuple[Tensor, Tensor | None]:
    """``W' - W`` and ``b' - b0`` of ``merged_weight``; without a b0, b' itself.

    Raises:
        UnsupportedFeature: as ``merged_weight``, or the update adds outputs: there is nothing they differ from.
    """
    new, new_bias = merged_weight(update, weight, bias, path=path, module=module)
    if new.shape != weight.shape:
        raise UnsupportedFeature(
            f"site {path}: it has {len(new)} outputs under the adapter and {len(weight)} in the base, "
            "so what the adapter adds is no change of the base's weight.",
            hint="Adapters that add tokens keep them in the exact sum (cat) and in an export as a model.",
        )
    moved = new_bias if new_bias is None or bias is None else new_bias - bias.float()
    return new - weight.float(), moved


def merged_table(update: SiteUpdate, table: Tensor, *, path: str = "", module: Any = None) -> Tensor:
    """The embedding table [vocab', dim] in float32 whose look-up is the updated one.

    Args:
        update: any update of an embedding site.
        table: E [vocab, dim].
        path: name of the site, for errors.
        module: the base's module, for updates of other classes that look at it.

    Raises:
        UnsupportedFeature: the update adds tokens and leaves some between them without a row.
    """
    E = table.float()
    if not isinstance(update, EmbeddingUpdate):
        scale = getattr(module, "embed_scale", 1.0)
        return update.output(module, torch.arange(len(E), device=E.device), E * scale).float() / scale
    if update.table is not None:
        E = update.table.float()
    if update.A is not None:
        A, B = factors(update)
        E = E + A.T @ B.T
    if update.out_scale is not None:
        E = E * update.out_scale.float()
    if update.rows is not None and update.row_ids is not None:
        E = replaced_rows(E, update.row_ids, update.rows, path)
    return E


def replaced_rows(matrix: Tensor, row_ids: Tensor, rows: Tensor, path: str) -> Tensor:
    """``matrix`` [n, m] with rows replaced, and longer where ``row_ids`` go on beyond it without a gap.

    Raises:
        UnsupportedFeature: rows between those beyond are not given.
    """
    beyond = row_ids[row_ids >= len(matrix)]
    grown = int(row_ids[-1]) + 1 - len(matrix) if len(beyond) else 0
    if grown != len(beyond):
        raise UnsupportedFeature(
            f"site {path}: the adapter adds {len(beyond)} rows beyond {len(matrix)}, up to row {int(row_ids[-1])}: "
            f"{grown - len(beyond)} between them have no values.",
            hint="Serve it as it is: there, rows without values are never picked.",
        )
    return F.pad(matrix, (0, 0, 0, grown)).index_copy(0, row_ids, rows.float())


def _merged_linear(update: LinearUpdate, W: Tensor, b: Tensor | None, path: str) -> tuple[Tensor, Tensor | None]:
    grown = max(0, num_rows(update.D) - len(W))
    W = F.pad(W, (0, 0, 0, grown))
    b = None if b is None else F.pad(b.float(), (0, grown))
    if update.in_scale is not None:
        W = W * update.in_scale.float()
    if update.out_scale is not None:
        W = W * update.out_scale.float().unsqueeze(1)
        b = None if b is None else b * update.out_scale.float()
    if update.A is not None:
        A, B = factors(update)
        W = W + B @ A
    if update.D is not None:
        W = W + update.D.float()
    if update.signs is not None and update.sign_scale is not None:
        W = W + unpack_signs(update.signs, W.shape[1]) * update.sign_scale.float().unsqueeze(1)
    if update.bias is not None:
        b = update.bias.float() if b is None else b + update.bias.float()
    if update.rows is not None and update.row_ids is not None:
        W = replaced_rows(W, update.row_ids, update.rows, path)
        if b is not None:  # a replaced row is ``rows x`` alone
            b = F.pad(b, (0, len(W) - len(b))).index_fill(0, update.row_ids, 0.0)
    return W, b


def _probed(
    update: SiteUpdate, W: Tensor, b: Tensor | None, path: str, module: nn.Module | None
) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of an update of another class, read off from what it makes of unit vectors."""

    def run(x: Tensor) -> Tensor:
        return update.output(module, x, F.linear(update.base_input(x), W, b)).float()  # type: ignore[arg-type]

    width = W.shape[1]
    try:
        offset = run(W.new_zeros(1, width))
        units = torch.eye(width, device=W.device).split(CHUNK)
        new = torch.cat([run(x) - offset for x in units]).T.contiguous()
        trial = torch.randn(8, width, generator=torch.Generator().manual_seed(0)).to(W.device)
        found, expected = run(trial), F.linear(trial, new) + offset
    except AdapterHubError:
        raise
    except Exception as error:  # a plugin's class may need more than a site's input
        raise _no_weight(update, path, f"it fails on unit vectors: {type(error).__name__}: {error}") from error
    if not torch.allclose(found, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max())):
        raise _no_weight(update, path, "its output is no affine function of its input")
    still = offset if b is None else offset - b.float()
    if torch.allclose(new, W, rtol=1e-5, atol=1e-6) and not still.any() and not update.changes_nothing():
        raise _no_weight(update, path, "what it does depends on more than its input")
    return new, None if b is None and not offset.any() else offset[0]


def _no_weight(update: SiteUpdate, path: str, why: str) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"site {path}: {type(update).__name__} cannot be folded into a weight: {why}.",
        hint="Serve the adapter as it is, unmerged.",
    )
