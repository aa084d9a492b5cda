"""Rotations of what a linear takes in, for the variants that train such: the weight itself is never asked for.

    y = out_scale * base(R x) + bias

So it works over weights in any storage. Rotations are kept as their difference from the identity: an adapter saved
before training is seen to be zero, and little is lost where it is kept in 16 bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapter_hub.errors import NotFinite
from adapter_hub.updates.site import SiteShape, TensorFields, hold_shape, is_zero


@dataclass(frozen=True, eq=False, kw_only=True)
class RotatedInput(TensorFields, ABC):
    """The equation of the module; classes say what R is.

    Args:
        out_scale: [out]; scales the base's bias too.
        bias: [out]
    """

    out_scale: Tensor | None = None
    bias: Tensor | None = None

    @abstractmethod
    def rotate(self, x: Tensor) -> Tensor:
        """R x. Shapes: ``x [..., in]`` in float32 or float64, result alike."""

    @abstractmethod
    def is_identity(self) -> bool:
        """Whether R x = x."""

    def check(self, site: SiteShape) -> None:
        """Hold scale and bias; the parts of R were held when it was made."""
        hold_shape(site, "out_scale", self.out_scale, (site.out_features,))
        hold_shape(site, "bias", self.bias, (site.out_features,))

    def changes_nothing(self) -> bool:
        """Whether R is the identity, and nothing stands beside it."""
        scaled = self.out_scale is not None and not bool((self.out_scale == 1).all())
        return self.is_identity() and not scaled and (self.bias is None or is_zero(self.bias))

    def base_input(self, x: Tensor) -> Tensor:
        """R x, computed in float32."""
        return self.rotate(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype)

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """The equation of the module. Shapes: ``x [..., in]``, ``base_output [..., out]``."""
        y = base_output if self.out_scale is None else base_output * self.out_scale
        return (y if self.bias is None else y + self.bias).to(base_output.dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class BlockRotation(RotatedInput):
    """R^T = M_1 M_2 ... M_N, so that rows x become x M_1 ... M_N; each M_i = I + P_i diag(turns_i) P_i^T.

    Args:
        turns: [N, n, k, k], the blocks less the identity, for in = n k; or [N, 1, k, k], one block for all places.
        order: [N, in] int64: where the i-th factor takes its inputs from; None leaves them where they are.
        back: [N, in] int64, the inverse of ``order``.
    """

    turns: Tensor
    order: Tensor | None = None
    back: Tensor | None = None

    def rotate(self, x: Tensor) -> Tensor:
        """See ``RotatedInput``."""
        for k, turn in enumerate(self.turns.to(x.dtype)):
            if self.order is None or self.back is None:
                x = x + turned(x, turn)
            else:
                x = x + turned(x.index_select(-1, self.order[k]), turn).index_select(-1, self.back[k])
        return x

    def is_identity(self) -> bool:
        """Whether every block is the identity."""
        return is_zero(self.turns)


@dataclass(frozen=True, eq=False, kw_only=True)
class RotatedTable(TensorFields):
    """y = R base(ids) for an embedding, R block-diagonal as above.

    Args:
        turns: [n, k, k] for tables of width n k; or [1, k, k].
    """

    turns: Tensor

    def check(self, site: SiteShape) -> None:
        """The blocks were held when they were made."""

    def changes_nothing(self) -> bool:
        """Whether every block is the identity."""
        return is_zero(self.turns)

    def base_input(self, x: Tensor) -> Tensor:
        """``x``."""
        return x

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """The equation of the class. Shapes: ids ``x [...]``, ``base_output [..., width]``."""
        y = base_output.to(torch.promote_types(base_output.dtype, torch.float32))
        return (y + turned(y, self.turns.to(y.dtype))).to(base_output.dtype)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reflections(RotatedInput):
    """R = I - U T U^T: a product of Householder reflections in the compact form of Schreiber and Van Loan (1989).

    Args:
        U: [in, r]
        T: [r, r]
    """

    U: Tensor
    T: Tensor

    def rotate(self, x: Tensor) -> Tensor:
        """See ``RotatedInput``; on rows, x - x U T^T U^T."""
        U = self.U.to(x.dtype)
        return x - (x @ U @ self.T.to(x.dtype).T) @ U.T

    def pair(self, weight: Tensor) -> tuple[Tensor, Tensor] | None:
        """See ``Factored``: W (I - U T U^T) = W - (W U T) U^T."""
        if self.out_scale is not None or self.U.shape[1] >= min(weight.shape):
            return None
        U = self.U.double()
        return U.T.float().contiguous(), -(weight.double() @ U @ self.T.double()).float()

    def is_identity(self) -> bool:
        """Whether nothing is reflected."""
        return is_zero(self.U) or is_zero(self.T)


def turned(x: Tensor, turn: Tensor) -> Tensor:
    """Each run of k values of ``x`` times its block: [..., n k] x [n or 1, k, k] -> [..., n k]."""
    blocks = x.unflatten(-1, (-1, turn.shape[-1]))
    if len(turn) == 1:
        return (blocks @ turn[0]).flatten(-2)
    return torch.einsum("...nk,nkc->...nc", blocks, turn).flatten(-2)


def cayley(skew: Tensor) -> Tensor:
    """(I + S)^-1 (I - S) less the identity, which is -2 S (I + S)^-1, for skew-symmetric S [n, k, k].

    Raises:
        NotFinite: S is so large that float32 cannot tell I + S from S.
    """
    solved, failed = torch.linalg.solve_ex(torch.eye(skew.shape[-1]) + skew, -2 * skew, left=False)
    if bool(failed.any()):
        raise NotFinite("the tensors of a rotation are too large to compute with.", hint="The training diverged.")
    return solved
