"""The merged path: an adapter folded into the weights that it changes, computed in float32 and rounded once."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base import BaseModel
from ..errors import NoRoom, UnsupportedFeature
from ..memory import give_back, is_shortage
from ..ops.plan import BaseCall
from ..store import Reserve
from ..updates import EmbeddingUpdate, Mergeable, ParameterUpdate, SiteUpdate, merged_weight, takes_place
from .bank import SiteContent
from .rowmap import Linear

PROBES = 4
# Of the products of one site on both paths. Roundings to 16 bit make about 0.005, a weight that is read wrongly over 1.
MAX_RELATIVE_ERROR = 0.05


@dataclass(frozen=True, eq=False)
class MergedWeights:
    """What an adapter makes of the weights that it changes.

    Args:
        linears: by path, the weight and bias that stand for base and update, in the type of the base's activations.
        kept: by path, why a site that the adapter changes stays on the factors path.
        seconds: how long the merge took.
    """

    linears: Mapping[str, Linear]
    kept: Mapping[str, str]
    seconds: float

    def __post_init__(self) -> None:
        device = next((weight.device for weight, _ in self.linears.values()), None)
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)  # they are made on one stream and read on others
            # A forward has ended for the cache when its work is queued: their memory may be reread until this.
            weakref.finalize(self, torch.cuda.synchronize, device).atexit = False

    @property
    def num_bytes(self) -> int:
        """Bytes of all weights and biases."""
        return sum(t.nbytes for linear in self.linears.values() for t in linear if t is not None)

    def on(self, device: torch.device, *, pinned: bool = False) -> MergedWeights:
        """A copy on a device; in host memory it may be pinned, so that the way back is fast."""

        def copy(tensor: Tensor) -> Tensor:
            return torch.empty_like(tensor, device=device, pin_memory=pinned).copy_(tensor)

        with torch.inference_mode(False), torch.no_grad():
            linears = {path: (copy(W), None if b is None else copy(b)) for path, (W, b) in self.linears.items()}
        return MergedWeights(linears, self.kept, self.seconds)


def merge(base: BaseModel, contents: Mapping[str, SiteContent], reserve: Reserve) -> MergedWeights:
    """Fold updates into the weights of their sites. The base is read, never written.

    Args:
        base: the frozen base, dequantised site by site.
        contents: by path, the update and the base's own product.
        reserve: is told the bytes before they are taken.

    Raises:
        NoRoom: the budget has no place for them, or the memory itself has not.
    """
    start = time.perf_counter()
    expected = {path: _bytes_at(base, path) for path, (update, _) in contents.items() if _is_linear(base, path, update)}
    reserve(sum(expected.values()))
    linears: dict[str, Linear] = {}
    kept: dict[str, str] = {}
    with torch.inference_mode(False), torch.no_grad():
        for path, (update, base_call) in contents.items():
            try:
                linears[path] = _merge_site(base, path, update, base_call)
            except _Unmergeable as reason:
                kept[path] = str(reason)
    merged = MergedWeights(linears, kept, time.perf_counter() - start)
    reserve(merged.num_bytes - sum(expected.values()))
    if base.device.type == "cpu":
        give_back(base.device)  # the float32 weights in between left as many bytes again in the allocator's hands
    return merged


class _Unmergeable(Exception):
    """Why a site stays on the factors path."""


def _bytes_at(base: BaseModel, path: str) -> int:
    site = base.site(path)
    columns = site.in_features + (getattr(base.module(path), "bias", None) is not None)
    return site.out_features * columns * base.compute_dtype.itemsize


def _is_linear(base: BaseModel, path: str, update: SiteUpdate) -> bool:
    """Whether one dense linear may compute it: whatever acts on a linear's input and output by itself."""
    if isinstance(base.module(path), nn.Embedding) or takes_place(update):
        return False
    return not isinstance(update, (EmbeddingUpdate, ParameterUpdate))


def _merge_site(base: BaseModel, path: str, update: SiteUpdate, base_call: BaseCall) -> Linear:
    if not _is_linear(base, path, update):
        raise _Unmergeable(f"a {type(update).__name__} is not merged into a weight.")
    module = base.module(path)
    bias = getattr(module, "bias", None)
    try:
        weight = base.dense_weight(path)
        own = None if bias is None else bias.detach().to(weight.dtype)
        if isinstance(update, Mergeable):
            W, b = update.merged(weight, own)
        else:  # a plugin's class that does not say: read off from what it makes of unit vectors
            W, b = merged_weight(update, weight, own, path=path, module=module)
        linear = _rounded(W, base.compute_dtype), None if b is None else _rounded(b, base.compute_dtype)
        error = _relative_error(linear, module, update, base_call)
    except UnsupportedFeature as reason:
        raise _Unmergeable(reason.message) from reason
    except Exception as failure:
        if is_shortage(failure):
            raise NoRoom(
                f"there is no memory left to merge {path}: {failure}.",
                hint="Nothing was lost. Unload something, or leave this adapter on the factors path.",
            ) from failure
        raise _Unmergeable(f"a {type(update).__name__} fails to merge: {failure}.") from failure
    if not error < MAX_RELATIVE_ERROR:
        raise _Unmergeable(f"the merged weight would give other outputs (relative error {error:.2g}).")
    return linear


def _rounded(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """In this type, in memory of its own: what is merged must neither be nor keep alive what it was made of."""
    return torch.empty(tensor.shape, dtype=dtype, device=tensor.device).copy_(tensor)


def _relative_error(linear: Linear, module: nn.Module, update: SiteUpdate, base_call: BaseCall) -> float:
    """How far the products of both paths differ on random inputs.

    A module whose forward is more than its product, or a weight stored in a way that is misread here, would
    otherwise give wrong answers in silence.
    """
    weight = linear[0]
    x = torch.randn(PROBES, weight.shape[1], generator=torch.Generator().manual_seed(0))
    x = x.to(weight.device, weight.dtype)
    expected = update.output(module, x, base_call(update.base_input(x))).float()
    found = F.linear(x, *linear).float()
    if found.shape != expected.shape:
        return float("inf")
    absent = torch.isneginf(expected)
    if not torch.equal(torch.isneginf(found), absent):
        return float("inf")
    difference, size = ((t.masked_fill(absent, 0.0)).norm().item() for t in (found - expected, expected))
    return difference / size if size else difference
