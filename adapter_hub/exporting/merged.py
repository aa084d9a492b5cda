"""The tensors of a base with an adapter folded in, one module at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..base import BaseModel, Site
from ..errors import NotFinite, UnsupportedFeature
from ..updates import EmbeddingUpdate, LinearUpdate, ParameterUpdate, SiteUpdate, merged_table, merged_weight
from ..updates.site import num_rows

# How far two ways to compute one table lie apart in float32.
TIED = 1e-5


@dataclass(frozen=True)
class ModuleTensors:
    """Tensors of one module that belong together: their names, shapes and type in the checkpoint."""

    path: str
    shapes: Mapping[str, tuple[int, ...]]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Size in the checkpoint."""
        return sum(prod(shape) for shape in self.shapes.values()) * self.dtype.itemsize

    @property
    def names(self) -> list[str]:
        """Full names of the tensors."""
        return [f"{self.path}.{name}" if self.path else name for name in self.shapes]


class MergedModel:
    """A base's checkpoint under an adapter, in ``dtype``. Computed in float32 and rounded once; the base is only read.

    Args:
        base: whose weights; dequantised where they are stored in 4 bit.
        updates: the adapter, lowered for that base.
        dtype: of all floating parameters.

    Raises:
        UnsupportedFeature: the adapter does something that a plain checkpoint of this architecture cannot.
    """

    def __init__(self, base: BaseModel, updates: Mapping[str, SiteUpdate], dtype: torch.dtype) -> None:
        self.base = base
        self.dtype = dtype
        self._updates = updates
        for path, update in updates.items():
            _hold_expressible(base.site(path), update)
        self._table = _path_of(base, base.model.get_input_embeddings())
        self._head = _path_of(base, base.model.get_output_embeddings())
        self.vocabulary = self._hold_one_vocabulary()
        self.untied = self._is_untied()

    def modules(self) -> list[ModuleTensors]:
        """Everything that the checkpoint holds, in the model's order; tied heads are left out."""
        found = []
        tied = self._tied_head() if not self.untied else None
        for path, module in self.base.model.named_modules():
            site = self.base.sites.get(path)
            if site is not None and path != tied:
                found.append(ModuleTensors(path, self._shapes(site), self.dtype))
            kept = {name: b for name, b in module._buffers.items() if b is not None and _is_kept(module, name)}
            found += [ModuleTensors(path, {name: tuple(b.shape)}, b.dtype) for name, b in kept.items()]
        return found

    def values(self, part: ModuleTensors) -> dict[str, Tensor]:
        """The numbers of one module, on the CPU and in the type of the checkpoint, under their full names.

        Raises:
            NotFinite: a weight is too large for the type.
            UnsupportedFeature: the update of the module is no weight.
        """
        site = self.base.sites.get(part.path)
        buffers = site is None or not part.shapes.keys() <= site.parameters.keys()
        raw = {name: self.base.parameter(part.path, name).detach() for name in part.shapes} if buffers else None
        tensors = raw if raw is not None else self._merged(self.base.sites[part.path])
        found = {}
        for full, name in zip(part.names, part.shapes, strict=True):
            tensor = tensors[name].to("cpu", part.dtype)
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise NotFinite(
                    f"parameter {full} holds values that {str(part.dtype).removeprefix('torch.')} cannot.",
                    hint="Export in bfloat16 or float32.",
                )
            found[full] = tensor.contiguous()
        return found

    def _merged(self, site: Site) -> dict[str, Tensor]:
        base, path = self.base, site.path
        update = self._updates.get(path)
        if site.kind == "linear":
            weight = base.dense_weight(path)
            bias = base.parameter(path, "bias").detach() if "bias" in site.parameters else None
            if update is not None:
                update = update.map_tensors(lambda tensor: tensor.to(weight.device))
                weight, bias = merged_weight(update, weight, bias, path=path, module=base.module(path))
            if bias is not None and "bias" not in site.parameters:
                _hold_no_bias(path, bias)
            weight = weight.T if isinstance(base.module(path), Conv1D) else weight
            others = site.parameters.keys() - {"weight", "bias"}
            own = {name: base.parameter(path, name).detach() for name in others}
            return {**own, "weight": weight} | ({} if bias is None else {"bias": bias})
        own = {name: base.parameter(path, name).detach() for name in site.parameters}
        if update is None:
            return own
        if isinstance(update, ParameterUpdate):
            return own | dict(update.parameters)
        update = update.map_tensors(lambda tensor: tensor.to(own["weight"].device))
        return {"weight": merged_table(update, own["weight"], path=path, module=base.module(path))}

    def _shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        shapes = dict(site.parameters)
        rows = _rows_under(site, self._updates.get(site.path))
        if site.kind == "linear" and isinstance(self.base.module(site.path), Conv1D):
            return shapes
        if site.kind != "other":
            shapes["weight"] = (rows, shapes["weight"][1])
        if site.kind == "linear" and "bias" in shapes:
            shapes["bias"] = (rows,)
        return shapes

    def _hold_one_vocabulary(self) -> int:
        table = self.base.sites[self._table]
        size = _rows_under(table, self._updates.get(self._table))
        head = None if self._head is None else self.base.sites[self._head]
        logits = size if head is None else _rows_under(head, self._updates.get(head.path))
        if size != logits and (size, logits) != (
            table.in_features,
            table.in_features if head is None else head.out_features,
        ):
            raise UnsupportedFeature(
                f"under the adapter {self._table} has {size} rows and {self._head} {logits}: a checkpoint has as many "
                "of the one as of the other.",
                hint="Serve it as it is, or train it with both.",
            )
        return size

    def _tied_head(self) -> str | None:
        return self.base.head_tied_to(self._table)

    def _is_untied(self) -> bool:
        """Whether a head that shares the base's table becomes another matrix than the table."""
        head = self._tied_head()
        if head is None or not {self._table, head} & self._updates.keys():
            return False
        table, logits = (self._merged(self.base.sites[path])["weight"].cpu() for path in (self._table, head))
        close = table.shape == logits.shape and torch.allclose(
            table, logits, rtol=0, atol=TIED * float(table.abs().max())
        )
        return not close


def _path_of(base: BaseModel, module: Any) -> Any:
    return next((path for path in base.sites if base.module(path) is module), None)


def _is_kept(module: nn.Module, name: str) -> bool:
    return name not in module._non_persistent_buffers_set


def _rows_under(site: Site, update: SiteUpdate | None) -> int:
    """Rows of a site's weight [out, in], or of its table, under an update."""
    own = site.in_features if site.kind == "embedding" else site.out_features
    if not isinstance(update, LinearUpdate | EmbeddingUpdate):
        return own
    whole = num_rows(update.D) if isinstance(update, LinearUpdate) else num_rows(update.table)
    listed = 0 if update.row_ids is None else int(update.row_ids[-1]) + 1
    return max(own, whole, listed)


def _hold_expressible(site: Site, update: SiteUpdate) -> None:
    if site.kind == "other" and not isinstance(update, ParameterUpdate):
        raise UnsupportedFeature(
            f"site {site.path}: {type(update).__name__} changes it in a way of its own, which no checkpoint holds.",
            hint="Serve the adapter as it is, unmerged.",
        )
    if isinstance(update, LinearUpdate) and update.bias is not None and "bias" not in site.parameters:
        _hold_no_bias(site.path, update.bias)


def _hold_no_bias(path: str, bias: Tensor) -> None:
    if bool(bias.any()):
        raise UnsupportedFeature(
            f"site {path}: the adapter adds a bias, for which the base's architecture has no place.",
            hint="Serve it as it is, or export it as an adapter.",
        )
