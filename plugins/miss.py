"""Variants: MiSS (Kang and Yin 2024, arXiv 2409.15371) and Bone, its name before.

    y = W x + D^T (x_1 + x_2 + ...),    x cut into runs x_j of r values

The sum of the runs is a product with a matrix of identities side by side, which adapters of one rank have in common.
With init_weights "mini" few columns of D stand for all; with "bat" the change is W_ij D_i + D_i in blocks of r by r,
which depends on W and is kept whole.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import ShapeMismatch
from adapter_hub.hookspecs import Variant, hookimpl
from adapter_hub.updates import LinearUpdate, SiteUpdate

from .peft_variant import Lowering, ModuleTensors, PeftVariant

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel


class Miss(PeftVariant):
    """One matrix a linear, of which its inputs share the rows."""

    name = "miss"
    peft_type = "MISS"
    marks = (".miss_block",)
    known = frozenset("miss_dropout mini_r r".split())
    scale_rule = "none"

    def rank(self, tensor: Tensor) -> int:
        """Rows of the matrix."""
        return tensor.shape[-1 if tensor.dim() == 3 else 0] if tensor.dim() else 0

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        return _Shards(config.get("init_weights"))


class Bone(Miss):
    """MiSS under the names that PEFT wrote up to 0.20."""

    name = "bone"
    peft_type = "BONE"
    marks = (".bone_block",)
    known = frozenset({"r"})


class _Shards(Lowering):
    def __init__(self, kind: object) -> None:
        self._kind = kind
        self._sums: dict[tuple[int, int], Tensor] = {}

    def update(self, module: ModuleTensors) -> SiteUpdate:
        inputs, outputs = module.site.in_features, module.site.out_features
        if self._kind == "bat":
            return LinearUpdate(D=_in_blocks(module, module.take(module.mark, None, None, None).float()))
        if self._kind == "mini":
            block = module.take(module.mark, None, None)
            if outputs % block.shape[1]:
                raise ShapeMismatch(
                    f"tensor {module.path}{module.mark} is {list(block.shape)}: its columns do not divide {outputs}.",
                    hint="The adapter was trained on a model of another shape.",
                )
            block = block.repeat(1, outputs // block.shape[1])
        else:
            block = module.take(module.mark, None, outputs)
        return LinearUpdate(A=self._sum(len(block), inputs), B=block.T.contiguous())

    def shared(self) -> tuple[Tensor, ...]:
        """The sums of runs: they follow from sizes alone."""
        return tuple(self._sums.values())

    def _sum(self, rank: int, inputs: int) -> Tensor:
        """[r, in], 1 where column c and row j have c mod r = j."""
        if (rank, inputs) not in self._sums:
            self._sums[rank, inputs] = torch.eye(rank).repeat(1, -(-inputs // rank))[:, :inputs].contiguous()
        return self._sums[rank, inputs]


def _in_blocks(module: ModuleTensors, blocks: Tensor) -> Tensor:
    """D [out, in] from [out / r, r, r]: W_ij D_i + D_i for the block in row i and column j of W."""
    rows, rank, columns = blocks.shape
    inputs, outputs = module.site.in_features, module.site.out_features
    if rank != columns or rows * rank != outputs or inputs % rank:
        raise ShapeMismatch(
            f"tensor {module.path}{module.mark} is {list(blocks.shape)}, no blocks of a weight [{outputs}, {inputs}].",
            hint="The adapter was trained on a model of another shape.",
        )
    weight = module.dense_weight().view(rows, rank, -1, rank)
    change = torch.einsum("ipjt,itq->ipjq", weight, blocks) + blocks.unsqueeze(2)
    return change.reshape(outputs, inputs)


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """MiSS, and Bone."""
    return [Miss(), Bone()]
