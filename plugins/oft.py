"""Variant: OFT (Qiu et al. 2023, arXiv 2306.07280; Qiu et al. 2025, arXiv 2506.19847, for its Neumann series).

    y = W R x + b0,    R^T = diag(Q_1, ..., Q_n),    Q_i = (I + S_i)^-1 (I - S_i)

S_i is skew-symmetric; the file has its upper triangle. Q_i depends on the adapter alone, so it is taken once, at load;
kept as matrices the rotations take about twice the memory of the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import ShapeMismatch
from adapter_hub.hookspecs import Variant, hookimpl
from adapter_hub.updates import SiteUpdate

from .peft_settings import is_number, is_whole
from .peft_variant import Lowering, ModuleTensors, PeftVariant
from .rotations import BlockRotation, RotatedTable, cayley

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel
    from adapter_hub.base.sites import SiteKind

LINEAR, TABLE = ".oft_R.weight", ".oft_embedding_R.weight"
MAX_TERMS = 64
NEUMANN_SINCE = (0, 18)


class Oft(PeftVariant):
    """Block-diagonal rotations of the input of linears, and of what an embedding gives."""

    name = "oft"
    peft_type = "OFT"
    marks = (LINEAR, TABLE)
    known = frozenset(
        "block_share coft eps module_dropout num_cayley_neumann_terms oft_block_size r use_cayley_neumann".split()
    )
    scale_rule = "none: the blocks are rotations"

    def kind(self, mark: str) -> SiteKind:
        """A table of embeddings has a name of its own for its rotations."""
        return "embedding" if mark == TABLE else "linear"

    def rank(self, tensor: Tensor) -> int:
        """Size of the blocks."""
        return _block_size(tensor) or 0

    def refusals(self, config: Mapping[str, Any]) -> list[str]:
        """What the series and the constraint need."""
        found = super().refusals(config)
        terms = config.get("num_cayley_neumann_terms", 5)
        if config.get("use_cayley_neumann", True) and not (is_whole(terms) and terms <= MAX_TERMS):
            found.append(f"the setting num_cayley_neumann_terms={terms!r} is no number of terms up to {MAX_TERMS}.")
        eps = config.get("eps", 6e-5)
        if config.get("coft") and not (is_number(eps) and eps >= 0):
            found.append(f"the setting eps={eps!r} is no radius.")
        return found

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        return _Blocks(config)


class _Blocks(Lowering):
    def __init__(self, config: Mapping[str, Any]) -> None:
        self._neumann = bool(config.get("use_cayley_neumann", True))
        self._terms = config.get("num_cayley_neumann_terms", 5)
        self._eps = config.get("eps", 6e-5) if config.get("coft") else None
        self._old = self._neumann and not _is_since(config.get("peft_version"), NEUMANN_SINCE)

    def update(self, module: ModuleTensors) -> SiteUpdate:
        is_table = module.mark == TABLE
        width = module.site.out_features if is_table else module.site.in_features
        values = module.take(module.mark, None, None)
        size = _block_size(values)
        if size is None or len(values) not in (1, width // size) or width % size:
            raise ShapeMismatch(
                f"tensor {module.path}{module.mark} is {list(values.shape)}, which makes no blocks of {width} inputs.",
                hint="The adapter was trained on a model of another shape.",
            )
        turns = self._turns(values.float(), size)
        if is_table:
            return RotatedTable(turns=turns)
        return BlockRotation(turns=turns.unsqueeze(0), bias=module.bias_change())

    def warnings(self) -> tuple[str, ...]:
        """Nobody wrote down how earlier versions cut the series off."""
        if not self._old:
            return ()
        return (
            "it was trained by a PEFT before 0.18, which ended the Neumann series otherwise: what it says may differ "
            "a little. PEFT gives the same answers, and the same warning.",
        )

    def _turns(self, values: Tensor, size: int) -> Tensor:
        skew = torch.zeros(len(values), size, size)
        above = torch.triu_indices(size, size, 1)
        skew[:, above[0], above[1]] = values
        skew = skew - skew.mT
        if self._eps is not None:
            skew = _constrained(skew, self._eps / math.sqrt(len(values)))
        return neumann(skew, self._terms) if self._neumann else cayley(skew)


def neumann(skew: Tensor, terms: int) -> Tensor:
    """PEFT's series for the Cayley transform of S [n, k, k], less the identity: 2 S + ... + 2 S^(t-2) + S^(t-1).

    Of three terms it makes as many as of four.
    """
    if terms < 3:
        return 2 * skew if terms == 2 else torch.zeros_like(skew)
    power = skew @ skew
    total = 2 * skew + 2 * power
    for _ in range(3, terms - 1):
        power = power @ skew
        total += 2 * power
    return total + power @ skew


def _constrained(skew: Tensor, radius: float) -> Tensor:
    """COFT: blocks that lie further out than the radius are put back on it."""
    norm = torch.linalg.matrix_norm(skew, keepdim=True)
    return torch.where(norm <= radius, skew, radius * (skew / norm))


def _block_size(tensor: Tensor) -> int | None:
    """k, where each block has k (k - 1) / 2 values; None where no k fits."""
    if tensor.dim() != 2:
        return None
    k = (1 + math.isqrt(1 + 8 * tensor.shape[1])) // 2
    return k if k * (k - 1) // 2 == tensor.shape[1] else None


def _is_since(version: object, least: tuple[int, int]) -> bool:
    """Whether a version as PEFT records it is this one or a later; it records none before 0.18."""
    parts = re.match(r"(\d{1,6})\.(\d{1,6})", version) if isinstance(version, str) else None
    return parts is not None and (int(parts[1]), int(parts[2])) >= least


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Oft()]
