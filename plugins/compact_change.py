"""Changes of a weight that are kept in a form much smaller than the weight, for the variants that have such.

The canonical form could hold each of them as a dense D, at many times the memory. These keep the tensors of the file
and multiply with them; what they mean is their ``product``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapter_hub.updates.site import SiteShape, TensorFields, hold_shape, is_zero


@dataclass(frozen=True, eq=False, kw_only=True)
class CompactChange(TensorFields, ABC):
    """y = base(x) + F x + bias, with F [out, in] in a form of the class's own.

    F x is computed in float32 and the sum is rounded once, as PEFT does for these types.

    Args:
        bias: [out]; added to the base's own bias.
    """

    bias: Tensor | None = None

    @abstractmethod
    def product(self, x: Tensor) -> Tensor:
        """F x. Shapes: ``x [..., in]`` in float32 or float64, result [..., out]."""

    @abstractmethod
    def is_zero(self) -> bool:
        """Whether F is zero."""

    def check(self, site: SiteShape) -> None:
        """Hold the bias; the parts of F were held when it was made."""
        hold_shape(site, "bias", self.bias, (site.out_features,))

    def changes_nothing(self) -> bool:
        """Whether F is zero, and so is the bias."""
        return self.is_zero() and (self.bias is None or is_zero(self.bias))

    def base_input(self, x: Tensor) -> Tensor:
        """``x``."""
        return x

    def output(self, module: nn.Module, x: Tensor, base_output: Tensor) -> Tensor:
        """The equation of the class. Shapes: ``x [..., in]``, ``base_output [..., out]``."""
        exact = torch.promote_types(x.dtype, torch.float32)
        y = base_output + self.product(x.to(exact))
        return (y if self.bias is None else y + self.bias).to(base_output.dtype)
