"""What llama.cpp calls the modules of a base, and in which order it keeps their rows.

Names are those of the table that the gguf library has for each architecture, looked up for the base's own modules.
Orders are those of llama.cpp's converter (``conversion/*.py``, ``modify_tensors``), tried with it for every
architecture that is listed here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, TensorNameMap
from torch import Tensor

from adapter_hub.errors import BaseMismatch, UnsupportedFeature

from .row_orders import halves_from_pairs, heads_from_parts, heads_of, pairs_from_halves, parts_from_heads

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel


@dataclass(frozen=True)
class Layout:
    """One architecture of llama.cpp.

    Args:
        name: ``general.architecture``.
        model_types: of transformers, that become it.
        rotary_pairs: whether the rows of q and k have the two of a rotary pair side by side.
        fused_parts: whether the fused projection has all q, all k, all v, where transformers goes head by head.
        swapped: whether the converter gives A for B and B for A, as it does where a base keeps [in, out].
        norm_offset: what norms have added to them.
    """

    name: str
    model_types: tuple[str, ...]
    rotary_pairs: bool = False
    fused_parts: bool = False
    swapped: bool = False
    norm_offset: float = 0.0


LAYOUTS = (
    Layout("llama", ("llama", "mistral", "mixtral"), rotary_pairs=True),
    Layout("qwen2", ("qwen2",)),
    Layout("qwen3", ("qwen3",)),
    Layout("gemma", ("gemma",), norm_offset=1.0),
    Layout("gemma2", ("gemma2",), norm_offset=1.0),
    Layout("phi2", ("phi",)),
    Layout("phi3", ("phi3",)),
    Layout("chatglm", ("glm",)),
    Layout("glm4", ("glm4",)),
    Layout("bloom", ("bloom",), fused_parts=True),
    Layout("gptneox", ("gpt_neox",), fused_parts=True),
    Layout("gpt2", ("gpt2",), swapped=True),
)


class _Names(TensorNameMap):
    """The library's constructor adds an architecture's own names to a table that all of them share; not here."""

    def __init__(self, architecture: MODEL_ARCH, blocks: int) -> None:
        self.block_mappings_cfg = dict(TensorNameMap.block_mappings_cfg)
        super().__init__(architecture, blocks)


def layout_named(architecture: object) -> Layout | None:
    """The layout of a file, by its ``general.architecture``; None where it is not known."""
    return next((layout for layout in LAYOUTS if layout.name == architecture), None)


def layout_of(base: BaseModel) -> Layout:
    """The layout that a base's adapters have.

    Raises:
        UnsupportedFeature: its rows are ordered in no way that is known here.
    """
    kind = _kind(base)
    layout = next((layout for layout in LAYOUTS if kind in layout.model_types), None)
    if layout is None:
        known = ", ".join(kind for layout in LAYOUTS for kind in layout.model_types)
        raise UnsupportedFeature(
            f"the base {base.name} is a {kind}, and how llama.cpp orders its rows is not known here.",
            hint=f"Known: {known}.",
        )
    return layout


def hold_base(layout: Layout, base: BaseModel) -> None:
    """Raise ``BaseMismatch`` unless a file of this layout can be for the base."""
    if _kind(base) not in layout.model_types:
        raise BaseMismatch(
            f"the file is for a {layout.name} of llama.cpp, the base {base.name} is a {_kind(base)}.",
            hint=f"Load a base that is a {' or '.join(layout.model_types)}.",
        )


def names_of(layout: Layout, base: BaseModel) -> dict[str, str]:
    """llama.cpp's name of each site of a base that it has one for, by the site's path."""
    architecture = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == layout.name)
    names = _Names(architecture, base.model.config.num_hidden_layers)
    found = {path: names.get_name(path) or names.get_name(path.removeprefix("transformer.")) for path in base.sites}
    return {path: name for path, name in found.items() if name is not None}


def to_base_rows(layout: Layout, name: str, rows: Tensor, base: BaseModel) -> Tensor:
    """B [out, r] of the module that llama.cpp calls ``name``, from llama.cpp's order to the base's."""
    return _reordered(layout, name, rows, base, halves_from_pairs, heads_from_parts)


def from_base_rows(layout: Layout, name: str, rows: Tensor, base: BaseModel) -> Tensor:
    """The inverse of ``to_base_rows``."""
    return _reordered(layout, name, rows, base, pairs_from_halves, parts_from_heads)


def _reordered(
    layout: Layout,
    name: str,
    rows: Tensor,
    base: BaseModel,
    rotary: Callable[[Tensor, int, str], Tensor],
    fused: Callable[[Tensor, int, str], Tensor],
) -> Tensor:
    module = name.rpartition(".")[2]
    if layout.rotary_pairs and module in ("attn_q", "attn_k"):
        heads = heads_of(base)
        return rotary(rows, heads.queries if module == "attn_q" else heads.keys, name)
    if layout.fused_parts and module == "attn_qkv":
        return fused(rows, heads_of(base).queries, name)
    return rows


def _kind(base: BaseModel) -> Any:
    return getattr(base.model.config, "model_type", None)
