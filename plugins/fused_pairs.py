"""Pairs of several modules that are one, fused, in another model: split apart, or joined to one pair."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapter_hub.errors import ShapeMismatch

Pair = tuple[Tensor, Tensor]


def split_pair(name: str, pair: Pair, outputs: Sequence[int]) -> list[Pair]:
    """The pairs of the parts of a fused module that has factors for each of them.

    Args:
        name: of the module, for messages.
        pair: A [parts * r, in], the parts' one below the other; B [sum of outputs, r], likewise.
        outputs: rows of each part.

    Raises:
        ShapeMismatch: the factors do not fall into such parts.
    """
    A, B = pair
    if A.dim() != 2 or B.dim() != 2 or A.shape[0] != len(outputs) * B.shape[1] or B.shape[0] != sum(outputs):
        raise ShapeMismatch(
            f"the tensors of {name} are {list(A.shape)} and {list(B.shape)}, "
            f"and {len(outputs)} parts of {list(outputs)} rows were trained.",
            hint="The adapter was trained on a model of another shape.",
        )
    return list(zip(A.chunk(len(outputs)), B.split(list(outputs)), strict=True))


def join_pairs(name: str, pairs: Sequence[Pair | None], outputs: Sequence[int]) -> Pair:
    """The pair of a fused module: A [sum of r, in], B [sum of outputs, sum of r], zero where parts do not meet.

    Args:
        name: of the fused module, for messages.
        pairs: of each part, in the order of its rows; None for a part without one.
        outputs: rows of each part.

    Raises:
        ShapeMismatch: a part has another number of rows, or of inputs.
    """
    given = [pair for pair in pairs if pair is not None]
    rank = sum(A.shape[0] for A, _ in given)
    joined = given[0][1].new_zeros(sum(outputs), rank)
    row = column = 0
    for pair, rows in zip(pairs, outputs, strict=True):
        if pair is not None:
            A, B = pair
            if A.dim() != 2 or A.shape[1] != given[0][0].shape[1] or B.shape != (rows, A.shape[0]):
                raise ShapeMismatch(
                    f"a part of {name} has tensors of {list(A.shape)} and {list(B.shape)}, {rows} rows in the base.",
                    hint="The adapter was trained on a model of another shape.",
                )
            joined[row : row + rows, column : column + A.shape[0]] = B
            column += A.shape[0]
        row += rows
    return torch.cat([A for A, _ in given]), joined
