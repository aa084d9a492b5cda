"""What an adapter does to an embedding table."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ShapeMismatch
from .parameters import forward_with
from .site import SiteShape, TensorFields, hold_shape, is_zero, num_rows


@dataclass(frozen=True, eq=False)
class EmbeddingUpdate(TensorFields):
    """What an adapter does to an embedding table E [vocab, dim]: a new table, a low-rank change, or new rows.

        y = out_scale * (module(ids; table or E) + scale * (A[:, ids]^T B^T))

    and then ``y = scale * rows[k]`` where ``ids = row_ids[k]``,
    with ``scale`` the module's own ``embed_scale`` where it has one (Gemma), else 1.

    Args:
        A: [r, vocab]
        B: [dim, r], any constant scale folded in.
        out_scale: [dim]
        table: [vocab', dim], in place of E. ``vocab' > vocab`` adds tokens.
        row_ids: [n] int64, increasing; ids beyond the table add tokens.
        rows: [n, dim], in place of those rows, not added to them.
    """

    A: Tensor | None = None
    B: Tensor | None = None
    out_scale: Tensor | None = None
    table: Tensor | None = None
    row_ids: Tensor | None = None
    rows: Tensor | None = None
    base_vocabulary: int = 0

    def check(self, site: SiteShape) -> None:
        """Hold every shape against the table's rows (``in_features``) and width (``out_features``)."""
        rank = num_rows(self.A)
        vocabulary = num_rows(self.table) if self.table is not None else site.in_features
        listed = num_rows(self.row_ids)
        hold_shape(site, "A", self.A, (rank, vocabulary))
        hold_shape(site, "B", self.B, (site.out_features, rank))
        hold_shape(site, "out_scale", self.out_scale, (site.out_features,))
        hold_shape(site, "rows", self.rows, (listed, site.out_features))
        hold_shape(site, "table", self.table, (vocabulary, site.out_features))
        if vocabulary < site.in_features:
            raise ShapeMismatch(
                f"site {site.path}: the new table has {vocabulary} rows, the base's has {site.in_features}.",
                hint="A table may add tokens, not take them away.",
            )

    def changes_nothing(self) -> bool:
        """True where only a low-rank branch is given and one of its factors is zero, or nothing at all."""
        if any(part is not None for part in (self.table, self.rows, self.out_scale)):
            return False
        return self.A is None or self.B is None or is_zero(self.A) or is_zero(self.B)

    def base_input(self, x: Tensor) -> Tensor:
        """Token ids with those that the base does not know set to 0; their rows are replaced afterwards."""
        if not self.base_vocabulary:
            return x
        return x.masked_fill(x >= self.base_vocabulary, 0)

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """The equation of the class. Shapes: ids ``x [...]``, ``base_output [..., dim]``."""
        y = base_output
        if self.table is not None:
            y = forward_with(module, {"weight": self.table.to(base_output.dtype)}, x)
        scale = getattr(module, "embed_scale", None)
        if self.A is not None and self.B is not None:
            branch = F.linear(F.embedding(x, self.A.T).float(), self.B.float())
            y = y + (branch if scale is None else branch * scale).to(y.dtype)
        if self.out_scale is not None:
            y = (y * self.out_scale).to(base_output.dtype)
        if self.rows is not None and self.row_ids is not None:
            where = torch.searchsorted(self.row_ids, x).clamp(max=len(self.row_ids) - 1)
            new = F.embedding(where, self.rows)
            new = new if scale is None else new * scale
            y = torch.where((self.row_ids[where] == x).unsqueeze(-1), new.to(y.dtype), y)
        return y.to(base_output.dtype)
