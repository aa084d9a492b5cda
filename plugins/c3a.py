"""Variant: C3A (Chen et al. 2024, arXiv 2407.19342, equation 5).

    y = W x + D x / in,    D in blocks [b, b] that are circulant: D_mn[p, q] = w_mn[(q - p) mod b]

A circulant block is a circular correlation with its first row, which fast Fourier transforms compute without it.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import ShapeMismatch
from adapter_hub.hookspecs import Variant, hookimpl
from adapter_hub.updates import SiteUpdate
from adapter_hub.updates.site import is_zero

from .compact_change import CompactChange
from .peft_variant import Lowering, ModuleTensors, PeftVariant

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

KERNEL = ".c3a_kernel"


@dataclass(frozen=True, eq=False, kw_only=True)
class CirculantChange(CompactChange):
    """F in circulant blocks, divided by its inputs.

    Args:
        kernel: [out / b, in / b, b], the blocks' first rows.
    """

    kernel: Tensor

    def product(self, x: Tensor) -> Tensor:
        """See ``CompactChange``."""
        size = self.kernel.shape[-1]
        spectrum = torch.fft.rfft(self.kernel.to(x.dtype)).conj()
        blocks = torch.fft.rfft(x.unflatten(-1, (-1, size)))
        y = torch.fft.irfft(torch.einsum("...nf,mnf->...mf", blocks, spectrum), n=size)
        return y.flatten(-2) / x.shape[-1]

    def is_zero(self) -> bool:
        """Whether every block is zero."""
        return is_zero(self.kernel)


class C3a(PeftVariant):
    """Circulant blocks at linears."""

    name = "c3a"
    peft_type = "C3A"
    marks = (KERNEL,)
    known = frozenset({"block_size", "block_size_pattern"})  # the kernel's shape has it
    scale_rule = "1 / inputs"

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        return _Kernels()


class _Kernels(Lowering):
    def update(self, module: ModuleTensors) -> SiteUpdate:
        kernel = module.take(KERNEL, None, None, None)
        rows, columns, size = kernel.shape
        inputs, outputs = module.site.in_features, module.site.out_features
        if (rows * size, columns * size) != (outputs, inputs):
            raise ShapeMismatch(
                f"tensor {module.path}{KERNEL} is {list(kernel.shape)}, no blocks of a weight [{outputs}, {inputs}].",
                hint="The adapter was trained on a model of another shape.",
            )
        return CirculantChange(kernel=kernel, bias=module.bias_change())


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [C3a()]
