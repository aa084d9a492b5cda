"""The canonical form itself as an adapter on disk: what compositions are kept in, and read from.

Every part of every update is a tensor, ``<path>.update_<part>``; what stands in a file with any adapter type's own
tensors is lowered once for a base, and this is what it was lowered to. So it holds any adapter, and belongs to the
base it was made on: a scale that DoRA took from the norms of W is one of that W. See docs/adapter-format.md.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapter_hub.errors import CorruptFile, ShapeMismatch, UnsupportedFeature
from adapter_hub.hookspecs import Exporter, Kept, Lowered, SiteSummary, Summary, Variant, hookimpl
from adapter_hub.updates import EmbeddingUpdate, LinearUpdate, ParameterUpdate, SiteUpdate
from adapter_hub.updates.summing import canonical

from .native_folder import unknown_fields, write_folder
from .peft_settings import is_number
from .trainable_tokens import MAX_GROWTH

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel
    from adapter_hub.loading import LoadedAdapter

NAME = "canonical"
MARK = ".update_"
KNOWN = frozenset(["composition", "same"])
PARTS = {
    kind: frozenset(entry.name for entry in fields(form) if entry.name != "base_vocabulary")
    for kind, form in (("linear", LinearUpdate), ("embedding", EmbeddingUpdate))
}


class Canonical:
    """Updates as they are."""

    name = NAME

    def matches(self, config: Mapping[str, Any]) -> bool:
        """This project's own format with ``variant: canonical``."""
        return config.get("variant") == NAME

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """Every site; those without a low-rank pair have no rank."""
        refused = _refusals(tensors, config)
        same = {} if refused else config.get("same") or {}
        sites: dict[str, SiteSummary] = {}
        for name, tensor in [*tensors.items(), *((name, tensors[of]) for name, of in same.items())]:
            path, mark, part = name.rpartition(MARK)
            rank = tensor.shape[0] if part == "A" and tensor.dim() else 0
            path = path if mark else name.rpartition(".")[0]
            sites[path] = SiteSummary(max(rank, sites[path].rank if path in sites else 0))
        return Summary(sites, "none: scales are folded in", tuple(refused))

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """The updates, their tensors by name; whole parameters are left under the base's own names."""
        refused = _refusals(tensors, config)
        if refused:
            raise UnsupportedFeature(refused[0])
        same = config.get("same") or {}
        parts: dict[str, dict[str, Tensor]] = {}
        for name, stored in [*((name, name) for name in tensors if MARK in name), *same.items()]:
            path, _, part = name.rpartition(MARK)
            parts.setdefault(path, {})[part] = tensors[stored]
        shared = {id(tensors[stored]): tensors[stored] for stored in same.values()}
        updates = {path: _update(path, given, base) for path, given in parts.items()}
        for name in [name for name in tensors if MARK in name]:
            del tensors[name]
        return Lowered(updates, _warnings(config.get("composition")), tuple(shared.values()))


class CanonicalExporter:
    """Writes what ``Canonical`` reads; classes of other plugins are written as the dense changes that they make."""

    name = NAME
    help = "this project's own format; every adapter without loss, for hubs on the same base"
    exact = True

    def write(
        self, adapter: LoadedAdapter, base: BaseModel, folder: Path, *, rank: int | None, record: Mapping[str, Any]
    ) -> list[Kept]:
        """See ``Exporter``; no rank limits anything here."""
        tensors: dict[str, Tensor] = {}
        same: dict[str, str] = {}
        seen: dict[tuple[object, ...], str] = {}
        kept = []
        for path, update in adapter.updates.items():
            form = canonical(path, update, base)
            mark = "." if isinstance(form, ParameterUpdate) else MARK
            for part, tensor in form.tensors().items():
                name = f"{path}{mark}{part}"
                key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
                if mark == MARK and tensor.numel() and key in seen:
                    same[name] = seen[key]  # projections that sites have in common are stored once
                else:
                    seen[key] = name
                    tensors[name] = tensor
            stored = sum(tensor.nbytes for tensor in form.tensors().values())
            kept.append(Kept(path, type(form).__name__, stored, 0.0, 0.0))
        config: dict[str, Any] = {"base_model_name_or_path": base.name, "revision": base.revision}
        if record:
            config["composition"] = dict(record)
        if same:
            config["same"] = same
        # Views of one block, as VeRA's are, would be refused by the writer: each is copied out of it.
        write_folder(folder, NAME, {name: tensor.cpu().clone() for name, tensor in tensors.items()}, config)
        return kept


def _update(path: str, given: dict[str, Tensor], base: BaseModel) -> SiteUpdate:
    site = base.site(path)
    unknown = sorted(given.keys() - PARTS.get(site.kind, frozenset()))
    if unknown:
        raise UnsupportedFeature(
            f"tensor {path}{MARK}{unknown[0]} is no part of an update of {path}, which is of the kind {site.kind}."
        )
    for one, other in (("A", "B"), ("rows", "row_ids"), ("signs", "sign_scale")):
        if (one in given) != (other in given):
            missing = other if one in given else one
            raise CorruptFile(f"tensor {path}{MARK}{missing} is missing.", hint="The file is incomplete.")
    if "row_ids" in given:
        _hold_rows(path, given["row_ids"], given["rows"], max(site.in_features, site.out_features))
    if site.kind == "embedding":
        return EmbeddingUpdate(**given, base_vocabulary=site.in_features)
    return LinearUpdate(**given)


def _hold_rows(path: str, row_ids: Tensor, rows: Tensor, known: int) -> None:
    """Refuse row numbers that are none, or so large that they would make the logits of every row as wide."""
    if row_ids.dtype != torch.int64 or row_ids.dim() != 1 or rows.dim() != 2 or len(rows) != len(row_ids):
        raise ShapeMismatch(
            f"tensors {path}{MARK}row_ids {list(row_ids.shape)} and {MARK}rows {list(rows.shape)} do not fit together."
        )
    ids = row_ids.tolist()
    if not ids or ids[0] < 0 or ids[-1] >= MAX_GROWTH * known or any(a >= b for a, b in pairwise(ids)):
        raise UnsupportedFeature(
            f"tensor {path}{MARK}row_ids holds no increasing numbers from 0 to {MAX_GROWTH * known - 1}.",
            hint="Tokens can be added, up to as many as the base has.",
        )


def _warnings(record: object) -> tuple[str, ...]:
    if not isinstance(record, Mapping):
        return ()
    found = []
    error = record.get("relative_error")
    if is_number(error) and error:
        found.append(f"the change of the weights is merged with a relative error of {error:.3g} (norm over norm)")
    if record.get("voice") == "base":
        found.append("its parents have different tokenizers or chat templates: the base's are used")
    return tuple(found)


def _refusals(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> list[str]:
    found = unknown_fields(config, KNOWN)
    same = config.get("same")
    if same is not None and not (
        isinstance(same, Mapping)
        and all(MARK in name and name not in tensors for name in same)
        and all(isinstance(of, str) and MARK in of and of in tensors for of in same.values())
    ):
        found.append("the field same is no table of names of parts and the stored tensors that they equal.")
    return found


@hookimpl
def adapter_hub_variants() -> list[Variant]:
    """The one variant here."""
    return [Canonical()]


@hookimpl
def adapter_hub_exporters() -> list[Exporter]:
    """The one exporter here."""
    return [CanonicalExporter()]
