"""Variant: HRA (Yuan et al. 2024, arXiv 2405.17484, equation 3).

    y = W H_1 H_2 ... H_r x + b0,    H_i = I - 2 u_i u_i^T / |u_i|^2

A chain of Householder reflections of the input. With apply_GS the u are made orthogonal first, and the chain is
I - 2 Q Q^T.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import NotFinite
from adapter_hub.hookspecs import Variant, hookimpl
from adapter_hub.updates import LinearUpdate, SiteUpdate

from .peft_variant import Lowering, ModuleTensors, PeftVariant
from .rotations import Reflections

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

VECTORS = ".hra_u"


class Hra(PeftVariant):
    """Reflections of the input of linears."""

    name = "hra"
    peft_type = "HRA"
    marks = (VECTORS,)
    known = frozenset({"apply_GS", "r"})
    scale_rule = "none: reflections have no scale"

    def rank(self, tensor: Tensor) -> int:
        """Reflections."""
        return tensor.shape[1] if tensor.dim() == 2 else 0

    def lowering(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowering:
        """See ``PeftVariant``."""
        return _Chains(bool(config.get("apply_GS")))


class _Chains(Lowering):
    def __init__(self, orthogonal: bool) -> None:
        self._orthogonal = orthogonal

    def update(self, module: ModuleTensors) -> SiteUpdate:
        vectors = module.take(VECTORS, module.site.in_features, None).float()
        bias = module.bias_change()
        U = orthogonalised(vectors) if self._orthogonal else vectors / vectors.norm(dim=0)
        if not bool(U.isfinite().all()):
            raise NotFinite(
                f"tensor {module.path}{VECTORS} holds a vector of no length, or of no number.",
                hint="The training diverged, or the file is damaged.",
            )
        if self._orthogonal:
            return Reflections(U=U, T=2 * torch.eye(U.shape[1]), bias=bias)
        if U.shape[1] % 2 == 0 and torch.equal(U[:, ::2], U[:, 1::2]):
            return LinearUpdate(bias=bias)  # as training starts: each reflection undoes the one before it
        return Reflections(U=U, T=chained(U), bias=bias)


def chained(U: Tensor) -> Tensor:
    """T [r, r] with H_1 ... H_r = I - U T U^T, for unit columns U [in, r]."""
    half = 0.5 * torch.eye(U.shape[1]) + torch.triu(U.T @ U, 1)
    return torch.linalg.solve_triangular(half, torch.eye(U.shape[1]), upper=True)


def orthogonalised(vectors: Tensor) -> Tensor:
    """Unit columns by Gram and Schmidt's rule, first to last, [in, r]."""
    found: list[Tensor] = []
    for vector in vectors.T:
        for unit in found:
            vector = vector - (unit @ vector) * unit
        found.append(vector / vector.norm())
    return torch.stack(found, dim=1)


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Hra()]
