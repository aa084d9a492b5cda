"""Tensors that stand under the base's own parameter names: whole parameters in place of the base's.

Formats keep heads, norms, embeddings and biases this way beside whatever their adapter type adds. They mean
the same for every type, so they are read here, once, and laid over what the variant made.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from ..base import BaseModel, Site
from ..errors import ShapeMismatch, UnsupportedFeature
from ..updates import EmbeddingUpdate, LinearUpdate, ParameterUpdate, SiteUpdate


def take_parameters(
    tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel
) -> dict[str, SiteUpdate]:
    """Take every tensor that replaces a parameter of the base out of ``tensors``, as updates by site.

    Names that are no parameter of the base stay where they are.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name in list(tensors):
        path, _, parameter = name.rpartition(".")
        site = base.sites.get(path)
        if site is not None and parameter in site.parameters:
            found.setdefault(path, {})[parameter] = tensors.pop(name)
    updates: dict[str, SiteUpdate] = {}
    for path, parameters in found.items():
        site = base.sites[path]
        updates[path] = _replacement(site, parameters, base)
        head = base.head_tied_to(path) if site.kind == "embedding" else None
        # A module that was saved as a copy of its own leaves the tied head on the base's table; a table that
        # was saved because the model was resized is the head's as well.
        if head is not None and head not in found and not _saved_apart(path, config):
            updates[head] = _linear(base.sites[head], {"weight": parameters["weight"]}, base)
    return {path: update for path, update in updates.items() if update.tensors()}


def overlay(path: str, made: SiteUpdate, replaced: SiteUpdate) -> SiteUpdate:
    """One update for a site that a variant changes and whose parameters are replaced as well.

    Raises:
        UnsupportedFeature: both say something of the same part, and not a sum.
    """
    if type(made) is not type(replaced) or not isinstance(made, LinearUpdate | EmbeddingUpdate):
        raise UnsupportedFeature(f"site {path} is both changed and replaced, in ways that cannot be joined.")
    if isinstance(made, EmbeddingUpdate) and made.out_scale is not None:
        raise UnsupportedFeature(
            f"site {path}: the adapter type scales the base's table, and the file replaces that table.",
            hint="Save the adapter without its embedding layers, or train it without scaling them.",
        )
    joined: dict[str, Any] = {**made.tensors()}
    for name, tensor in replaced.tensors().items():
        if name == "bias" and name in joined:
            joined[name] = joined[name] + tensor
        elif name in joined:
            raise UnsupportedFeature(f"site {path}: {name} is given by the adapter type and by the file's own weight.")
        else:
            joined[name] = tensor
    return replace(made, **joined)


def _saved_apart(path: str, config: Mapping[str, Any]) -> bool:
    names = config.get("modules_to_save") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnsupportedFeature("modules_to_save is not a list of names.", hint="Save the adapter from PEFT again.")
    return any(path == name or path.endswith(f".{name}") for name in names)


def _replacement(site: Site, parameters: dict[str, Tensor], base: BaseModel) -> SiteUpdate:
    if site.kind == "linear":
        return _linear(site, parameters, base)
    if site.kind == "embedding":
        return _embedding(site, parameters["weight"], base)
    if any(len(shape) > 2 for shape in site.parameters.values()):
        raise UnsupportedFeature(
            f"site {site.path}: its parameters are stacked over experts; replacing them whole is not supported.",
            hint="Train it with an adapter type instead.",
        )
    return ParameterUpdate(parameters)


def _linear(site: Site, parameters: dict[str, Tensor], base: BaseModel) -> LinearUpdate:
    weight, bias = parameters.get("weight"), parameters.get("bias")
    if weight is not None and weight.dim() != 2:
        raise ShapeMismatch(f"site {site.path}: weight is {list(weight.shape)}, which is no matrix.")
    own_bias = base.parameter(site.path, "bias").float().cpu() if "bias" in site.parameters else None
    if bias is not None and tuple(bias.shape) != site.parameters["bias"]:
        raise ShapeMismatch(
            f"site {site.path}: bias is {list(bias.shape)}, the base asks for {list(site.parameters['bias'])}."
        )
    if weight is None or _same(weight, site, base):
        return LinearUpdate(bias=None if bias is None or own_bias is None else bias.float() - own_bias)
    if isinstance(base.module(site.path), Conv1D):
        weight = weight.T.contiguous()  # it keeps [in, out]
    # out_scale of zero silences the base, its bias included, so the bias comes back with the weight.
    silent = torch.zeros(max(weight.shape[0], site.out_features))
    return LinearUpdate(D=weight, out_scale=silent, bias=own_bias if bias is None else bias)


def _embedding(site: Site, table: Tensor, base: BaseModel) -> EmbeddingUpdate:
    if _same(table, site, base):
        return EmbeddingUpdate(base_vocabulary=site.in_features)
    return EmbeddingUpdate(table=table, base_vocabulary=site.in_features)


def _same(weight: Tensor, site: Site, base: BaseModel) -> bool:
    """Whether a stored weight is just the base's own, as PEFT saves beside an adapted embedding."""
    own = base.parameter(site.path, "weight")
    return own.shape == weight.shape and bool(torch.equal(own.detach().cpu(), weight.to(own.dtype)))
