"""The canonical form at a linear site."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ShapeMismatch
from .site import SiteShape, TensorFields, hold_shape, is_zero, num_rows

# Dimensions by field, of those that hold floats.
FLOATS = {
    "A": ("r", "in"),
    "B": ("out", "r"),
    "mid_scale": ("r",),
    "branch_scale": ("out",),
    "out_scale": ("out",),
    "in_scale": ("in",),
    "bias": ("out",),
    "D": ("out", "in"),
    "sign_scale": ("out",),
    "rows": ("n", "in"),
}


@dataclass(frozen=True, eq=False)
class LinearUpdate(TensorFields):
    """The canonical form at a linear site with base output ``base(x) = W x + b0``.

        y = out_scale * base(in_scale * x) + branch_scale * (B (mid_scale * (A x))) + D x + sign_scale * (S x) + bias

    after which, where ``rows`` is given, ``y[row_ids] = rows x``: rows of W that are replaced rather than
    shifted, kept as rows because a dense D of an output head would be nearly all zeros.

    Args:
        A: [r, in]. Needs ``B``.
        B: [out, r]; any constant scale (alpha / r and the like) is folded in.
        mid_scale: [r]
        branch_scale: [out]
        out_scale: [out]
        in_scale: [in]
        bias: [out]; added to the base's own bias.
        D: [out', in]. ``out' > out`` extends the output; the base adds nothing to the rows beyond ``out``.
        signs: [out, ceil(in / 8)] uint8, S in bits: input 8 j + i is bit i of column j; set means 1, clear -1.
            Needs ``sign_scale``.
        sign_scale: [out]
        row_ids: [n] int64, increasing. A row beyond ``out`` extends the output; extended rows that are not
            listed are minus infinity, so that no sampler picks them.
        rows: [n, in]
    """

    A: Tensor | None = None
    B: Tensor | None = None
    mid_scale: Tensor | None = None
    branch_scale: Tensor | None = None
    out_scale: Tensor | None = None
    in_scale: Tensor | None = None
    bias: Tensor | None = None
    D: Tensor | None = None
    signs: Tensor | None = None
    sign_scale: Tensor | None = None
    row_ids: Tensor | None = None
    rows: Tensor | None = None

    def check(self, site: SiteShape) -> None:
        """Hold every shape against the site's ``in_features`` and ``out_features``."""
        out, columns = max(site.out_features, num_rows(self.D)), site.in_features
        sizes = {"r": num_rows(self.A), "in": columns, "out": out, "n": num_rows(self.row_ids)}
        for name, tensor in self.tensors().items():
            dimensions = FLOATS.get(name)
            if dimensions is not None:
                hold_shape(site, name, tensor, tuple([sizes[dimension] for dimension in dimensions]))
        if self.signs is not None:
            hold_shape(site, "signs", self.signs, (out, -(-columns // 8)), torch.uint8)
        if (self.A is None) != (self.B is None):
            raise ShapeMismatch(f"site {site.path}: A and B must come together.")
        if (self.signs is None) != (self.sign_scale is None):
            raise ShapeMismatch(f"site {site.path}: signs and sign_scale must come together.")

    @property
    def num_outputs(self) -> int:
        """Outputs that the update asks for by itself; 0 where it has nothing that could add any."""
        rows = 0 if self.row_ids is None or not len(self.row_ids) else int(self.row_ids[-1]) + 1
        return max(rows, num_rows(self.D))

    def changes_nothing(self) -> bool:
        """True where only a low-rank branch is given and one of its factors is zero, or nothing at all."""
        given = self.tensors().keys() - {"A", "B", "mid_scale", "branch_scale"}
        if given - {"bias"} or (self.bias is not None and not is_zero(self.bias)):
            return False
        branch = (self.A, self.B, self.mid_scale, self.branch_scale)
        return self.A is None or any(factor is not None and is_zero(factor) for factor in branch)

    def base_input(self, x: Tensor) -> Tensor:
        """``in_scale * x``."""
        return x if self.in_scale is None else x * self.in_scale.to(x.dtype)

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """The equation of the class. Shapes: ``x [..., in]``, ``base_output [..., out]``, result [..., out'].

        The branch runs in float32, whatever its factors are stored in, and is rounded to the base's dtype
        before it is added: so does PEFT on a 4-bit base, and the two agree bit for bit
        (docs/decisions/0002-adapter-precision.md).
        """
        y = base_output
        if self.D is not None and self.D.shape[0] > y.shape[-1]:
            y = F.pad(y, (0, self.D.shape[0] - y.shape[-1]))
        if self.out_scale is not None:
            y = y * self.out_scale
        if self.A is not None and self.B is not None:
            exact = torch.promote_types(x.dtype, torch.float32)
            branch = F.linear(x.to(exact), self.A.to(exact))
            if self.mid_scale is not None:
                branch = (branch * self.mid_scale).to(exact)
            branch = F.linear(branch, self.B.to(exact))
            branch = branch if self.branch_scale is None else branch * self.branch_scale
            y = y + branch.to(base_output.dtype)
        if self.D is not None:
            # In the wider of the two types, as a module of this weight in this base would multiply.
            wider = torch.promote_types(x.dtype, self.D.dtype)
            y = y + F.linear(x.to(wider), self.D.to(wider))
        if self.signs is not None and self.sign_scale is not None:
            y = y + self.sign_product(x, self.signs) * self.sign_scale
        if self.bias is not None:
            y = y + self.bias
        if self.rows is not None and self.row_ids is not None:
            y = self._replace_rows(x, y, self.row_ids, self.rows)
        return y.to(base_output.dtype)

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The one linear that computes the equation of the class: y = W' x + b'.

            W' = out_scale W in_scale + branch_scale B mid_scale A + D + sign_scale S,    b' = out_scale b0 + bias

        and ``rows``, which have no bias, in place of those rows of W'.

        Args:
            weight: W [out, in], of a type exact enough to compute in; never written.
            bias: b0 [out] of that type, where the base has one.

        Returns:
            W' [out', in] and b' [out'] or None, of the same type; b' is minus infinity where no row is listed.
        """
        exact = weight.dtype
        if self.in_scale is not None:
            weight = weight * self.in_scale.to(exact)
        missing = num_rows(self.D) - weight.shape[0]
        if missing > 0:
            weight = F.pad(weight, (0, 0, 0, missing))
            bias = None if bias is None else F.pad(bias, (0, missing))
        if self.out_scale is not None:
            weight = weight * self.out_scale.to(exact).unsqueeze(1)
            bias = None if bias is None else bias * self.out_scale.to(exact)
        if self.A is not None and self.B is not None:
            B = self.B.to(exact)
            B = B if self.branch_scale is None else B * self.branch_scale.to(exact).unsqueeze(1)
            B = B if self.mid_scale is None else B * self.mid_scale.to(exact)
            weight = torch.addmm(weight, B, self.A.to(exact))
        if self.D is not None:
            weight = weight + self.D.to(exact)
        if self.signs is not None and self.sign_scale is not None:
            signs = unpack_signs(self.signs, weight.shape[1]).to(exact)
            weight = torch.addcmul(weight, signs, self.sign_scale.to(exact).unsqueeze(1))
        if self.bias is not None:
            bias = self.bias.to(exact) if bias is None else bias + self.bias.to(exact)
        if self.rows is not None and self.row_ids is not None and len(self.row_ids):
            missing = max(0, int(self.row_ids[-1]) + 1 - weight.shape[0])
            if bias is not None or missing:
                bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
                bias = F.pad(bias, (0, missing), value=float("-inf")).index_fill(0, self.row_ids, 0.0)
            weight = F.pad(weight, (0, 0, 0, missing)).index_copy(0, self.row_ids, self.rows.to(exact))
        return weight, bias

    def sign_product(self, x: Tensor, signs: Tensor) -> Tensor:
        """``S x``, in float32 at least."""
        exact = torch.promote_types(x.dtype, torch.float32)
        return F.linear(x.to(exact), unpack_signs(signs, x.shape[-1]).to(exact))

    def _replace_rows(self, x: Tensor, y: Tensor, row_ids: Tensor, rows: Tensor) -> Tensor:
        # Extended once at load would be simpler, but only here is it known how wide y is.
        width = max(y.shape[-1], int(row_ids[-1]) + 1) if len(row_ids) else y.shape[-1]
        y = F.pad(y, (0, width - y.shape[-1]), value=float("-inf"))
        wider = torch.promote_types(x.dtype, rows.dtype)
        return y.index_copy(-1, row_ids, F.linear(x.to(wider), rows.to(wider)).to(y.dtype))


def pack_signs(weight: Tensor) -> Tensor:
    """The signs of ``weight [out, in]`` in bits, [out, ceil(in / 8)] uint8; zero counts as positive."""
    bits = F.pad(weight >= 0, (0, -weight.shape[1] % 8)).view(weight.shape[0], -1, 8)
    return (bits * _BITS.to(weight.device)).sum(-1).to(torch.uint8)


def unpack_signs(signs: Tensor, columns: int) -> Tensor:
    """S [out, columns] in float32, of 1 and -1, from its bits."""
    rows = F.embedding(signs.int(), _BYTES.to(signs.device))  # eight values a look-up: bit by bit takes far longer
    return rows.view(signs.shape[0], -1)[:, :columns]


_BITS = 1 << torch.arange(8)
# Every byte as its eight signs, lowest bit first.
_BYTES = torch.where(torch.arange(256).unsqueeze(1).bitwise_and(_BITS) > 0, 1.0, -1.0)
