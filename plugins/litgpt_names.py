"""LitGPT's names of modules and its orders of rows, as a base has them.

``transformer.h.N.attn.qkv`` has one pair for each of q, k and v that was trained: ranks one below the other in A, rows
one below the other in B. Until version 0.5 it was ``attn.attn``, whose weight has the rows of q, k and v group by group
of heads; where all three were trained, that version adds B's rows to those of the weight as they lie, so that a row of
q may belong to the factors of k (seen in 0.4.13). What was trained that way is an adapter of three times the rank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from adapter_hub.errors import CorruptFile
from adapter_hub.hookspecs import AdapterFiles

from .alphas import widened
from .base_names import BaseNames
from .fused_pairs import Pair, join_pairs, split_pair
from .lora import LINEAR
from .row_orders import heads_from_parts, heads_of, parts_from_groups, rows_of_parts

if TYPE_CHECKING:
    from adapter_hub.base import BaseModel

LAYER = re.compile(r"transformer\.h\.(\d+)\.(.+)")
QKV, QKV_BY_GROUP = "attn.qkv", "attn.attn"
# What the models of transformers call LitGPT's other modules of a layer.
NAMES = {
    "attn.proj": ("self_attn.o_proj", "self_attn.dense", "attention.dense"),
    "mlp.fc_1": ("mlp.gate_proj",),
    "mlp.fc_2": ("mlp.up_proj",),
    "mlp.fc": ("mlp.fc1", "mlp.dense_h_to_4h"),
    "mlp.proj": ("mlp.down_proj", "mlp.fc2", "mlp.dense_4h_to_h"),
}
GATES, FUSED_GATES = ("mlp.fc_1", "mlp.fc_2"), "mlp.gate_up_proj"
SEPARATE = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
FUSED, BY_HEAD = "self_attn.qkv_proj", "attention.query_key_value"


def fit_names(files: AdapterFiles, enabled: tuple[bool, ...], base: BaseModel) -> AdapterFiles:
    """The files under the base's names and in its order of rows.

    Args:
        files: pairs under LitGPT's names.
        enabled: which of q, k and v were trained.
        base: a base whose modules are called as in one of transformers' models that LitGPT knows.

    Raises:
        CorruptFile: there is half a pair, or a pair that was not trained.
        ShapeMismatch: the base is of another shape.
    """
    fitted = _Fitted(base, enabled)
    for module, pair in _pairs(files.tensors).items():
        layer = LAYER.fullmatch(module)
        if layer is None:
            fitted.put(module, pair)
        elif layer[2] in (QKV, QKV_BY_GROUP):
            fitted.put_attention(module, layer[1], pair, by_group=layer[2] == QKV_BY_GROUP and all(enabled))
        else:
            fitted.put_named(module, layer[1], layer[2], pair)
    fitted.put_gates()
    return replace(files, tensors=fitted.tensors, config=widened(files.config, fitted.grown))


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, Pair]:
    """Both factors of each module."""
    found: dict[str, Pair] = {}
    for name, tensor in tensors.items():
        module = name.removesuffix(LINEAR[0]).removesuffix(LINEAR[1])
        if module == name or module + LINEAR[0] not in tensors or module + LINEAR[1] not in tensors:
            raise CorruptFile(f"tensor {name} is no half of a pair.", hint="The file is incomplete.")
        if name.endswith(LINEAR[0]):
            found[module] = tensor, tensors[module + LINEAR[1]]
    return found


@dataclass(frozen=True)
class _Projections:
    """Where q, k and v of a layer lie in a base: in three modules, or in one, head by head or part by part."""

    paths: tuple[str, ...]
    rows: list[int]
    by_head: bool = False


class _Fitted:
    """Gathers pairs under the names of a base's modules; what it has no module for keeps its own."""

    def __init__(self, base: BaseModel, enabled: tuple[bool, ...]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.grown: dict[str, float] = {}
        self._base = base
        self._enabled = enabled
        self._names = BaseNames(base.sites)
        self._gates: dict[str, dict[str, Pair]] = {}

    def put(self, path: str, pair: Pair, times: float = 1.0) -> None:
        """Put a pair that has ``times`` the rank that was trained."""
        A, B = pair
        self.tensors |= {path + LINEAR[0]: A.contiguous(), path + LINEAR[1]: B.contiguous()}
        if times != 1.0:
            self.grown[path] = times

    def put_named(self, module: str, layer: str, name: str, pair: Pair) -> None:
        found = (self._site(layer, one) for one in NAMES.get(name, ()))
        path = next((path for path in found if path is not None), None)
        gates = self._site(layer, FUSED_GATES)
        if path is None and gates is not None and name in GATES:
            self._gates.setdefault(gates, {})[name] = pair
        else:
            self.put(path or module, pair)

    def put_gates(self) -> None:
        """Join the pairs of both gates where the base has them in one module."""
        for path, found in self._gates.items():
            half = self._base.sites[path].out_features // 2
            A, B = join_pairs(path, [found.get(gate) for gate in GATES], [half, half])
            self.put(path, (A, B), len(found))

    def put_attention(self, module: str, layer: str, pair: Pair, *, by_group: bool) -> None:
        place = self._projections(layer)
        if place is None:
            return self.put(module, pair)
        trained = [rows for rows, on in zip(place.rows, self._enabled, strict=True) if on]
        if not trained:
            raise CorruptFile(f"by the hyperparameters none of q, k and v was trained, and there is a {module}.")
        parts = iter(split_pair(module, pair, trained))
        pairs = [next(parts) if on else None for on in self._enabled]
        if len(place.paths) == len(pairs) and not by_group:
            for path, part in zip(place.paths, pairs, strict=True):
                if part is not None:
                    self.put(path, part)
            return None
        A, B = join_pairs(module, pairs, place.rows)
        if by_group:
            B = parts_from_groups(B, heads_of(self._base), module)
        if place.by_head:
            B = heads_from_parts(B, heads_of(self._base).queries, module)
        for path, rows in zip(place.paths, B.split(place.rows) if len(place.paths) > 1 else [B], strict=True):
            self.put(path, (A, rows), len(trained))
        return None

    def _projections(self, layer: str) -> _Projections | None:
        separate = [path for name in SEPARATE if (path := self._site(layer, name)) is not None]
        if len(separate) == len(SEPARATE):
            return _Projections(tuple(separate), [self._base.sites[path].out_features for path in separate])
        for name in (FUSED, BY_HEAD):
            if (path := self._site(layer, name)) is not None:
                rows = rows_of_parts(self._base.sites[path].out_features, heads_of(self._base))
                return _Projections((path,), rows, by_head=name == BY_HEAD)
        return None

    def _site(self, layer: str, name: str) -> str | None:
        path = self._names.find(f"layers.{layer}.{name}")
        return path if path in self._base.sites else None
