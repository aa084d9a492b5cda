"""The proof at load: an adapter is served only if all of it is understood and all of it fits this base."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..base import BaseModel
from ..errors import (
    AdapterHubError,
    BaseMismatch,
    NotFinite,
    PluginError,
    ShapeMismatch,
    UnconsumedTensors,
    UnsupportedFeature,
)
from ..hookspecs import AdapterFiles, Lowered, Variant
from ..updates import LinearUpdate, SiteUpdate
from .parameters import overlay, take_parameters
from .steps import passed

FLOATS = frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16})


@dataclass(frozen=True)
class Proven:
    """Updates that hold for a base, site by site, and what the user should know about them.

    Updates that change nothing are left out: they would only cost time.
    """

    updates: Mapping[str, SiteUpdate]
    warnings: tuple[str, ...]
    shared: tuple[Tensor, ...]
    invocation: tuple[int, ...] = ()


def prove(files: AdapterFiles, variant: Variant, owner: str, base: BaseModel, *, any_base: bool = False) -> Proven:
    """Lower an adapter and hold the result against the base.

    Args:
        files: the adapter as its format read it.
        variant: its type, brought by the plugin named ``owner``.
        base: the base that is to serve it.
        any_base: accept an adapter that records a base of another name or revision.

    Raises:
        BaseMismatch, NotFinite, UnknownSite, ShapeMismatch, UnconsumedTensors: as their names say.
        UnsupportedFeature: the variant refuses something by name, or a tensor's type is none to compute with.
        PluginError: the variant broke.
    """
    if not any_base:
        _match_base(files, base)
    passed("base", files.base_name or "the file names none")
    _hold_types(files.tensors)
    tensors = dict(files.tensors)
    lowered = _lower(variant, owner, tensors, files, base)
    updates = dict(lowered.updates)
    for path, replaced in take_parameters(tensors, files.config, base).items():
        updates[path] = overlay(path, updates[path], replaced) if path in updates else replaced
        updates[path].check(base.site(path))
    _hold_widths(updates, base)
    passed("sites", f"{len(updates)} sites")
    if tensors:
        raise UnconsumedTensors(
            f"{len(tensors)} tensors are of no use to {variant.name}: {_some(sorted(tensors))}.",
            hint="The file is damaged, of another adapter type, or for another base.",
        )
    passed("tensors", f"{len(files.tensors)} tensors")
    not_zero = _hold_finite(_canonical(updates), files.tensors)
    idle = [path for path, update in updates.items() if _is_idle(update, not_zero)]
    passed("values", f"{len(updates) - len(idle)} of {len(updates)} sites are changed")
    warnings = lowered.warnings + _warn_of(idle, len(updates))
    for path in idle:
        del updates[path]
    return Proven(updates, warnings, lowered.shared, lowered.invocation)


def _lower(variant: Variant, owner: str, tensors: dict[str, Tensor], files: AdapterFiles, base: BaseModel) -> Lowered:
    """What the variant makes of the tensors, each of its updates of the site's shape."""
    try:
        lowered = variant.lower(tensors, files.config, base)
        _hold_kinds(lowered, variant, owner)
        for path, update in lowered.updates.items():
            update.check(base.site(path))
    except AdapterHubError:
        raise
    except Exception as error:
        _hold_each_finite(files.tensors)  # values that nobody can reckon with are no fault of the plugin
        raise PluginError(
            f"plugin {owner!r} fails to lower a {variant.name} adapter: {type(error).__name__}: {error}.",
            hint="Nothing was changed; report it to the plugin's author.",
        ) from error
    return lowered


def _hold_kinds(lowered: Lowered, variant: Variant, owner: str) -> None:
    for kind in {type(update) for update in lowered.updates.values()}:  # asked once a class: it is slow
        if not issubclass(kind, SiteUpdate):
            raise PluginError(
                f"plugin {owner!r} made a {kind.__name__} of a {variant.name} adapter, which is no site update.",
                hint="See adapter_hub.updates.SiteUpdate for what one has to offer.",
            )


def _hold_widths(updates: Mapping[str, SiteUpdate], base: BaseModel) -> None:
    """Only the output head may be given further rows: new tokens. What comes after any other linear has its width."""
    head = base.model.get_output_embeddings()
    for path, update in updates.items():
        wanted = update.num_outputs if isinstance(update, LinearUpdate) else 0
        if wanted > (has := base.site(path).out_features) and base.module(path) is not head:
            raise ShapeMismatch(
                f"site {path}: the adapter gives it {wanted} outputs, the base asks for {has}.",
                hint="The adapter was trained on a model of another shape.",
            )


def _match_base(files: AdapterFiles, base: BaseModel) -> None:
    hint = "Load the right base, or accept this one with the setting allow_base_mismatch."
    known = (base.name, *base.aliases)
    if files.base_name and not any(_same_name(files.base_name, name) for name in known):
        raise BaseMismatch(f"the adapter was trained on {files.base_name}, this base is {base.name}.", hint=hint)
    if files.base_revision and base.revision and not base.revision.startswith(files.base_revision):
        raise BaseMismatch(
            f"the adapter was trained on revision {files.base_revision} of {base.name}, this is {base.revision}.",
            hint=hint,
        )


def _same_name(recorded: str, name: str) -> bool:
    """Hub ids must be equal; where one of the two is a folder, its last part is what can be compared."""
    if recorded == name:
        return True
    folders = [text for text in (recorded, name) if Path(text).is_absolute() or text.count("/") != 1]
    return bool(folders) and Path(recorded).name.lower() == Path(name).name.lower()


def _hold_types(tensors: Mapping[str, Tensor]) -> None:
    """Refuse numbers below 16 bit and complex ones; what whole numbers mean is for the variant to say."""
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS and (tensor.is_floating_point() or tensor.is_complex()):
            raise UnsupportedFeature(
                f"tensor {name} is stored as {str(tensor.dtype).removeprefix('torch.')}, which is not served.",
                hint="Save the adapter in 16 or 32 bit.",
            )


def _canonical(updates: Mapping[str, SiteUpdate]) -> dict[str, Tensor]:
    return {f"{field} of site {path}": t for path, update in updates.items() for field, t in update.tensors().items()}


def _hold_finite(lowered: Mapping[str, Tensor], read: Mapping[str, Tensor]) -> set[int]:
    """Hold every value that is to be served finite; returns the addresses of those known not to be all zero.

    Values are asked as they were lowered, because a scale can make infinite what is finite in the file. Sums
    first: they are several times cheaper than isfinite, and finite only over finite values; tensors that are
    cut from one block are asked together. Where a sum is not finite, it may have overflowed, so each tensor is
    then asked exactly, the file's own before what was made of them.
    """
    not_zero: set[int] = set()
    for root, group in _by_block(lowered):
        if math.isfinite(root.sum(dtype=torch.float32).item()):
            firsts = root.reshape(-1)[[tensor.storage_offset() - root.storage_offset() for tensor in group.values()]]
            not_zero.update(t.data_ptr() for t, first in zip(group.values(), firsts.tolist(), strict=True) if first)
            continue
        _hold_each_finite(read)
        _hold_each_finite(group)
    return not_zero


def _hold_each_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if bad := int((~torch.isfinite(tensor.float())).sum()):
            raise NotFinite(
                f"tensor {name} holds {bad} values that are NaN or infinite.",
                hint="The training diverged, a scale is far too large, or the file is damaged.",
            )


def _by_block(tensors: Mapping[str, Tensor]) -> Iterable[tuple[Tensor, dict[str, Tensor]]]:
    """Floating tensors by what they are cut from, if it is of their type, else each alone."""
    blocks: dict[int, tuple[Tensor, dict[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            root = tensor._base
            whole = tensor if root is None or root.dtype != tensor.dtype or not root.is_contiguous() else root
            blocks.setdefault(id(whole), (whole, {}))[1][name] = tensor
    return blocks.values()


def _is_idle(update: SiteUpdate, not_zero: set[int]) -> bool:
    """Whether an update changes nothing; where all it holds is known not to be zero, there is nothing to ask."""
    held = update.tensors().values()
    return not (held and all(tensor.data_ptr() in not_zero for tensor in held)) and update.changes_nothing()


def _warn_of(idle: Sequence[str], sites: int) -> tuple[str, ...]:
    if len(idle) == sites:
        return ("the adapter changes nothing: every update is zero, as in a file saved before training.",)
    if idle:
        return (f"{len(idle)} of {sites} sites are left unchanged: {_some(idle)}.",)
    return ()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
