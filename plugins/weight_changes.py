"""Changes of whole weights as this project's own format stores them, for the variants that have such.

At a module ``path``, one of:

    path.delta_weight                    [out, in]: the change itself
    path.delta_A, path.delta_B           [r, in], [out, r]: the change is B A
    path.delta_signs, path.delta_scale   bits [out, ceil(in / 8)], [out]: the change is diag(scale) S

and for an embedding's table [vocab, dim] the low-rank pair alone, ``delta_A [r, dim]`` and ``delta_B [vocab, r]``,
which changes a tied output head as well.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING

from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import SiteSummary
from adapter_hub.updates import EmbeddingUpdate, LinearUpdate, SiteUpdate

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

DENSE = (".delta_weight",)
LOW_RANK = (".delta_A", ".delta_B")
ONE_BIT = (".delta_signs", ".delta_scale")
FORMS = (DENSE, LOW_RANK, ONE_BIT)
DAMAGED = "The file is damaged."


def take_changes(tensors: MutableMapping[str, Tensor], base: BaseModel) -> dict[str, SiteUpdate]:
    """Take every stored change of a weight out of ``tensors``, as updates by site.

    Raises:
        CorruptFile: half of a change is missing, or a weight has two.
        UnsupportedFeature: the site is of a kind that such a change cannot be made of.
    """
    updates: dict[str, SiteUpdate] = {}
    for path, form in _forms(tensors).items():
        parts = [tensors.pop(path + end) for end in form]
        if parts[0].dim() != 2:
            raise ShapeMismatch(f"tensor {path}{form[0]} is {list(parts[0].shape)}, not a matrix.", hint=DAMAGED)
        if form == LOW_RANK and (parts[1].dim() != 2 or parts[0].shape[0] != parts[1].shape[1]):
            raise ShapeMismatch(
                f"tensors {path}{form[0]} {list(parts[0].shape)} and {form[1]} {list(parts[1].shape)} make no product.",
                hint=DAMAGED,
            )
        site = base.site(path)
        if site.kind == "linear":
            updates[path] = _linear(form, parts)
        elif site.kind == "embedding" and form == LOW_RANK:
            # The embedding form looks its rows up in A, so what a linear calls B is A there.
            A, B = parts[1].T.contiguous(), parts[0].T.contiguous()
            updates[path] = EmbeddingUpdate(A=A, B=B, base_vocabulary=site.in_features)
            head = base.head_tied_to(path)
            if head is not None:
                updates[head] = _linear(form, parts)
        else:
            raise UnsupportedFeature(
                f"tensor {path}{form[0]} changes {path}, which is no linear in this base.",
                hint="Store its tuned parameters whole, under their own names.",
            )
    return updates


def summarise(tensors: Mapping[str, Tensor]) -> dict[str, SiteSummary]:
    """The sites of stored changes; their rank is that of a low-rank pair, else 0."""
    sites = {}
    for form in FORMS:
        for name, tensor in tensors.items():
            if name.endswith(form[0]):
                rank = tensor.shape[0] if form == LOW_RANK and tensor.dim() else 0
                sites[name.removesuffix(form[0])] = SiteSummary(rank)
    return sites


def is_change(name: str) -> bool:
    """Whether a tensor's name is that of a change, or of a part of one."""
    return name.endswith(tuple(end for form in FORMS for end in form))


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name in tensors:
        for form in FORMS:
            end = next((end for end in form if name.endswith(end)), None)
            if end is None:
                continue
            path = name.removesuffix(end)
            missing = next((path + other for other in form if path + other not in tensors), None)
            if missing is not None:
                raise CorruptFile(f"tensor {missing} is missing beside {name}.", hint="The file is incomplete.")
            if found.setdefault(path, form) != form or f"{path}.weight" in tensors:
                raise CorruptFile(f"{path} has its weight changed in two ways.", hint="Save it in one of them.")
    return found


def _linear(form: tuple[str, ...], parts: list[Tensor]) -> LinearUpdate:
    if form == DENSE:
        return LinearUpdate(D=parts[0])
    if form == LOW_RANK:
        return LinearUpdate(A=parts[0], B=parts[1])
    return LinearUpdate(signs=parts[0], sign_scale=parts[1].float())
