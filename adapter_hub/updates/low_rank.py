"""Low-rank products: their factors with every scale folded in, and the nearest product of a smaller rank."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .embedding import EmbeddingUpdate
from .linear import LinearUpdate
from .site import Factored, SiteUpdate

BRANCH = frozenset({"A", "B", "mid_scale", "branch_scale"})


def is_low_rank(update: SiteUpdate, *, beside: frozenset[str] = frozenset()) -> bool:
    """Whether an update is a product ``B A`` and nothing else, apart from parts named in ``beside``."""
    if not isinstance(update, LinearUpdate | EmbeddingUpdate):
        return False
    given = update.tensors().keys()
    return {"A", "B"} <= given <= BRANCH | beside


def factors(update: LinearUpdate | EmbeddingUpdate) -> tuple[Tensor, Tensor]:
    """A [r, in] and B [out, r] in float32 of the branch of an update that has one; its scales are folded into B."""
    assert update.A is not None
    assert update.B is not None
    A, B = update.A.float(), update.B.float()
    if isinstance(update, LinearUpdate):
        B = B if update.mid_scale is None else B * update.mid_scale
        B = B if update.branch_scale is None else B * update.branch_scale.unsqueeze(1)
    return A, B


def as_pair(update: SiteUpdate, weight: Callable[[], Tensor]) -> SiteUpdate:
    """An update of a class of its own that amounts to a low-rank pair, as that pair; any other as it is.

    Args:
        update: of a linear site.
        weight: gives the base's W [out, in] in float32; asked for only where the class has a pair at all.
    """
    if not isinstance(update, Factored):
        return update
    found = update.pair(weight())
    return update if found is None else LinearUpdate(A=found[0], B=found[1], bias=update.tensors().get("bias"))


def best_pair(change: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A [rank, in] and B [out, rank] of the product nearest to ``change`` [out, in] (Eckart and Young 1936).

    By the eigenvectors of the smaller Gram matrix: for a table of 49,152 rows that is a hundred times faster
    than an SVD. The orthonormal factor is scaled so that both have like sizes in 16 bit.
    """
    tall = change.shape[0] >= change.shape[1]
    M = change.double() if tall else change.T.double()
    _, vectors = torch.linalg.eigh(M.T @ M)
    V = vectors[:, -rank:]
    U = M @ V
    size = U.norm(dim=0).sqrt().clamp_min(1e-30)
    U, V = U / size, V * size
    return (V.T.float(), U.float()) if tall else (U.T.float(), V.float())


def shorter_pair(A: Tensor, B: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """The pair of ``rank`` whose product is nearest to ``B A``, and the norm of what is lost.

    With B = Q_b R_b and A^T = Q_a R_a, the singular values of ``B A`` are those of the small R_b R_a^T, so the
    product itself is never made.
    """
    Qb, Rb = torch.linalg.qr(B.double())
    Qa, Ra = torch.linalg.qr(A.T.double())
    U, S, Vt = torch.linalg.svd(Rb @ Ra.T, full_matrices=False)
    root = S[:rank].sqrt()
    return ((Qa @ Vt[:rank].T) * root).T.float(), (Qb @ U[:, :rank] * root).float(), S[rank:].norm().item()


def norm(tensor: Tensor) -> float:
    """Frobenius norm."""
    return torch.linalg.vector_norm(tensor, dtype=torch.float64).item()


def product_norm(A: Tensor, B: Tensor) -> float:
    """Frobenius norm of ``B A``, from two small Gram matrices."""
    squared = ((B.T.double() @ B.double()) * (A.double() @ A.T.double())).sum()
    return float(squared.clamp_min(0).sqrt())
