"""Exporter: a LoRA in GGUF, for llama.cpp and what is built on it.

Written are low-rank pairs with every scale in B: alpha is the rank, or 0 where ranks differ, which llama.cpp takes
for a scale of 1. Its loader skips all else that a file could hold (norms, biases), so such an adapter is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from gguf import GGUFType, GGUFWriter
from torch import Tensor

from adapter_hub.errors import UnsupportedFeature
from adapter_hub.hookspecs import Exporter, Kept, hookimpl
from adapter_hub.updates import EmbeddingUpdate, LinearUpdate, SiteUpdate
from adapter_hub.updates.low_rank import as_pair

from .gguf_layout import Layout, from_base_rows, layout_of, names_of
from .gguf_lora import ADAPTER_TYPE, ALPHA, EMBEDDED, HALVES, STRAIGHT

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel
    from adapter_hub.loading import LoadedAdapter

FILE = "adapter.gguf"
BRANCH = frozenset({"A", "B", "mid_scale", "branch_scale"})
WAY_OUT = "Convert it to a plain LoRA of some rank first (--to lora --rank N), and that to GGUF."


class GgufExport:
    """One file, in float32."""

    name = "gguf"
    help = "a LoRA in GGUF, for llama.cpp"
    exact = False

    def write(
        self, adapter: LoadedAdapter, base: BaseModel, folder: Path, *, rank: int | None, record: Mapping[str, Any]
    ) -> list[Kept]:
        """See ``Exporter``. Nothing is lost: what has no pair within ``rank`` is refused.

        Raises:
            UnsupportedFeature: llama.cpp's order of rows is not known for this base, or a site is changed in a way
                that it does not serve.
        """
        layout = layout_of(base)
        names = names_of(layout, base)
        pairs = {path: _pair(path, update, names, base, rank) for path, update in adapter.updates.items()}
        ranks = {A.shape[0] for A, _ in pairs.values()}
        writer = GGUFWriter(folder / FILE, layout.name)
        writer.add_type(GGUFType.ADAPTER)
        writer.add_string(ADAPTER_TYPE, "lora")
        writer.add_float32(ALPHA, float(ranks.pop()) if len(ranks) == 1 else 0.0)
        writer.add_bool(STRAIGHT, True)
        for path, (A, B) in pairs.items():
            for name, tensor in _tensors(names[path], A, B, layout, base).items():
                writer.add_tensor(name, tensor.contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return [_kept(path, A, B) for path, (A, B) in pairs.items()]


def _pair(
    path: str, update: SiteUpdate, names: Mapping[str, str], base: BaseModel, limit: int | None
) -> tuple[Tensor, Tensor]:
    """A [r, in] and B [out, r] of a site in float32, every scale in B."""
    if base.site(path).kind == "linear":
        update = as_pair(update, lambda: base.dense_weight(path).cpu())
    if not isinstance(update, LinearUpdate | EmbeddingUpdate) or update.A is None or update.B is None:
        raise UnsupportedFeature(f"site {path}: what the adapter does there is no pair of low rank.", hint=WAY_OUT)
    more = update.tensors().keys() - BRANCH
    if more:
        raise UnsupportedFeature(
            f"site {path}: llama.cpp serves low-rank pairs alone, and the adapter has {', '.join(sorted(more))} there.",
            hint=WAY_OUT,
        )
    tied = base.head_tied_to(path) if base.site(path).kind == "embedding" else None
    if path not in names or tied is not None or _is_tied_head(path, base):
        raise UnsupportedFeature(
            f"site {path}: llama.cpp has no tensor of its own for it in this base.", hint="Train the others alone."
        )
    A, B = update.A.float(), update.B.float()
    if isinstance(update, LinearUpdate):
        B = B if update.mid_scale is None else B * update.mid_scale
        B = B if update.branch_scale is None else B * update.branch_scale.unsqueeze(1)
    if limit is not None and A.shape[0] > limit:
        raise UnsupportedFeature(f"site {path}: its pair has rank {A.shape[0]}, not {limit}.", hint=WAY_OUT)
    return A, B


def _is_tied_head(path: str, base: BaseModel) -> bool:
    return any(base.head_tied_to(table) == path for table, site in base.sites.items() if site.kind == "embedding")


def _tensors(name: str, A: Tensor, B: Tensor, layout: Layout, base: BaseModel) -> dict[str, Tensor]:
    rows = A.T if name == EMBEDDED else A
    return {name + HALVES[0]: rows, name + HALVES[1]: from_base_rows(layout, name, B, base)}


def _kept(path: str, A: Tensor, B: Tensor) -> Kept:
    # The norm of B A, from two small matrices: |B A|^2 = <B^T B, A A^T>.
    squared = ((B.T.double() @ B.double()) * (A.double() @ A.T.double())).sum().clamp_min(0)
    return Kept(path, f"rank {A.shape[0]}", A.nbytes + B.nbytes, float(torch.sqrt(squared)), 0.0)


@hookimpl
def adapter_hub_exporters() -> list[Exporter]:
    """The one exporter here."""
    return [GgufExport()]
