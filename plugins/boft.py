"""Variant: BOFT (Liu et al. 2023, arXiv 2311.06243, equation 6).

    y = s * (W R x) + b0,    R^T = M_1 ... M_N,    M_i = P_i diag(Q_i1, ..., Q_in) P_i^T

Each Q is the Cayley transform of a skew-symmetric block. The P_i carry blocks of the i-th factor to places further and
further apart, as in a fast Fourier transform, so that few small blocks make a dense rotation.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import ShapeMismatch
from adapter_hub.hookspecs import Variant, hookimpl
from adapter_hub.updates import SiteUpdate

from .peft_variant import Lowering, ModuleTensors, PeftVariant
from .rotations import BlockRotation, cayley

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

BLOCKS, SCALE = ".boft_R", ".boft_s"


class Boft(PeftVariant):
    """Butterfly rotations of the input, and a scale for each output."""

    name = "boft"
    peft_type = "BOFT"
    marks = (BLOCKS,)
    known = frozenset("boft_block_num boft_block_size boft_dropout boft_n_butterfly_factor".split())
    scale_rule = "none: the blocks are rotations"

    def rank(self, tensor: Tensor) -> int:
        """Size of the blocks."""
        return tensor.shape[-1] if tensor.dim() == 4 else 0

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        return _Butterflies()


class _Butterflies(Lowering):
    def __init__(self) -> None:
        self._orders: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def update(self, module: ModuleTensors) -> SiteUpdate:
        width, outputs = module.site.in_features, module.site.out_features
        blocks = module.take(BLOCKS, None, None, None, None).float()
        factors, count, size, columns = blocks.shape
        # The last factor's places lie 2^(N-1) blocks apart, in halves of blocks.
        if size != columns or count * size != width or (factors > 1 and (size % 2 or count % 2 ** (factors - 1))):
            raise ShapeMismatch(
                f"tensor {module.path}{BLOCKS} is {list(blocks.shape)}, which makes no rotation of {width} inputs.",
                hint="The adapter was trained on a model of another shape.",
            )
        scale = module.take(SCALE, outputs, 1).float().flatten()
        turns = cayley((0.5 * (blocks - blocks.mT)).flatten(0, 1)).view_as(blocks)
        own, change = module.own_bias(), module.bias_change()
        # Neither the base's bias nor a trained one is scaled.
        parts = [part for part in (None if own is None else (1 - scale) * own, change) if part is not None]
        bias = torch.stack(parts).sum(0) if parts else None
        if factors == 1:
            return BlockRotation(turns=turns, out_scale=scale, bias=bias)
        order, back = self._order(width, size, factors)
        return BlockRotation(turns=turns.flip(0), order=order, back=back, out_scale=scale, bias=bias)

    def shared(self) -> tuple[Tensor, ...]:
        """The permutations: they follow from sizes alone."""
        return tuple(tensor for pair in self._orders.values() for tensor in pair)

    def _order(self, width: int, size: int, factors: int) -> tuple[Tensor, Tensor]:
        key = (width, size, factors)
        if key not in self._orders:
            # Rows meet the last factor first.
            places = torch.stack([butterfly(width, size, level) for level in reversed(range(factors))])
            self._orders[key] = (places.argsort(-1), places)
        return self._orders[key]


def butterfly(width: int, size: int, level: int) -> Tensor:
    """The permutation of one factor, [width]: in runs of 2^level blocks, even half blocks first, then odd ones."""
    order = torch.arange(width).view(-1, 2**level, 2, size // 2)
    return order.transpose(1, 2).reshape(-1)


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Boft()]
