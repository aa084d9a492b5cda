"""The sites of a base: every module that holds parameters of its own, with its logical shape."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

SiteKind = Literal["linear", "embedding", "other"]
TABLE_ROWS = 256


@dataclass(frozen=True)
class Site:
    """One module of the base that an adapter can change.

    ``in_features`` and ``out_features`` are those of the product a linear computes, whatever its weight's
    storage looks like; for an embedding they are its rows and its width; for any other module both are 0.
    ``parameters`` gives the shapes of its parameters as a checkpoint in 16 bit holds them.
    """

    path: str
    kind: SiteKind
    in_features: int
    out_features: int
    parameters: Mapping[str, tuple[int, ...]]


def find_sites(model: nn.Module) -> dict[str, Site]:
    """List every site of ``model`` by its path, in the model's own order."""
    sites = {}
    for path, module in model.named_modules():
        shapes = {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}
        if shapes:
            sites[path] = _site(path, module, shapes)
    return sites


def _site(path: str, module: nn.Module, shapes: dict[str, tuple[int, ...]]) -> Site:
    if isinstance(module, nn.Embedding):
        return Site(path, "embedding", module.num_embeddings, module.embedding_dim, shapes)
    if isinstance(module, Conv1D):
        return Site(path, "linear", module.nx, module.nf, shapes)
    rows, columns = getattr(module, "out_features", None), getattr(module, "in_features", None)
    if isinstance(rows, int) and isinstance(columns, int) and "weight" in shapes:
        # A quantised linear packs its weight; the shape that a checkpoint holds is the logical one.
        return Site(path, "linear", columns, rows, {**shapes, "weight": (rows, columns)})
    return Site(path, "other", 0, 0, shapes)


def fingerprint(model: Any, sites: Mapping[str, Site], parameter: Callable[[str, str], torch.Tensor]) -> str:
    """Sha256 that tells two bases apart, and is the same for one base in any quantisation and dtype.

    Hashed are the architecture, each site's path and shape, whether the output head is the embedding table,
    and in bfloat16 the values of all vectors (norms, biases) and of the table's first rows: no quantiser
    touches those, and hardly any further training leaves all of them in place.

    Args:
        model: the model, perhaps without its numbers.
        sites: its sites.
        parameter: gives the numbers of a parameter, by path and name.
    """
    digest = hashlib.sha256(type(model).__name__.encode())
    for site in sites.values():
        digest.update(f"{site.path}:{site.kind}:{site.in_features}:{site.out_features};".encode())
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings()
    digest.update(b"tied" if head is not None and head.weight is table else b"untied")
    named = [(*name.rpartition(".")[::2], p) for name, p in model.named_parameters()]
    vectors = [parameter(path, name) for path, name, p in named if p.dim() == 1 and p.is_floating_point()]
    rows = next(parameter(path, name) for path, name, p in named if p is table)[:TABLE_ROWS]
    for tensor in (*vectors, rows):
        digest.update(tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
