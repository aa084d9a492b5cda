"""The bank: the updates of all resident adapters at the sites of one model, and the rows of each forward."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from ..base import BaseModel
from ..store import BASE_SLOT
from ..updates import SiteUpdate
from .interning import Interned, InternPool
from .rowmap import CURRENT, RowMap
from .site import AdaptedSite

BASE_ROWS = RowMap(everywhere=BASE_SLOT)
WORTH_KEEPING = 0.95


class AdapterBank:
    """Puts updates into slots and lets each forward of the model see the right ones.

    Args:
        base: the frozen model. Only the ``forward`` of its modules is covered, and only while needed.
        dtype: type in which updates are kept; None keeps each tensor as its file has it.
        default_rows: a context manager that holds the default adapter for one forward and gives its rows.
    """

    def __init__(
        self, base: BaseModel, dtype: torch.dtype | None, default_rows: Callable[[], AbstractContextManager[RowMap]]
    ) -> None:
        self.base = base
        self.dtype = dtype
        self._default_rows = default_rows
        self._sites: dict[str, AdaptedSite] = {}
        self._bytes: dict[int, int] = {}
        self._pool = InternPool()
        self._interned: dict[int, list[Interned]] = {}
        self._forward = base.model.forward
        base.model.forward = self._scoped(self._forward)

    def close(self) -> None:
        """Give the model back as it was."""
        for slot in list(self._bytes):
            self.clear(slot)
        del self.base.model.forward
        if self.base.model.forward != self._forward:
            self.base.model.forward = self._forward

    def install(self, slot: int, updates: Mapping[str, SiteUpdate], shared: frozenset[str] = frozenset()) -> None:
        """Write an adapter's updates into a slot that no row uses yet; all sites or, on an error, none.

        Args:
            slot: its number.
            updates: by site path; tensors already on the device are taken as they are.
            shared: fields whose tensors are kept once for all who have equal ones.
        """
        interned = self._interned[slot] = []
        try:
            places = self._share(updates, shared, interned)
            sparse = _sparse_blocks(updates, places)

            def place(tensor: Tensor) -> Tensor:
                if id(tensor) in places:
                    return places[id(tensor)]
                alone = tensor.clone() if sparse and _block(tensor) in sparse else tensor
                return self._to_device(alone)

            settled = not (places or sparse) and all(map(self._is_placed, updates.values()))
            resident = updates if settled else {path: u.map_tensors(place) for path, u in updates.items()}
            for path, update in resident.items():
                site = self._sites.get(path)
                if site is None:
                    site = self._sites[path] = AdaptedSite(self.base.module(path), self._rows)
                    site.attach()
                site.updates[slot] = update
        except BaseException:
            self.clear(slot)
            raise
        kept = {kept.tensor.untyped_storage().data_ptr() for kept in interned}
        self._bytes[slot] = _own_bytes(resident, kept)

    def clear(self, slot: int) -> None:
        """Empty a slot; sites that no adapter changes any more are the base's own again."""
        for path, site in list(self._sites.items()):
            site.updates.pop(slot, None)
            if not site.updates:
                site.detach()
                del self._sites[path]
        self._bytes.pop(slot, None)
        for kept in self._interned.pop(slot, ()):
            self._pool.give_back(kept)

    def bytes(self, slot: int) -> int:
        """Device bytes of a slot's own tensors; shared ones are not among them."""
        return self._bytes.get(slot, 0)

    @property
    def shared_bytes(self) -> int:
        """Device bytes of shared tensors, each once."""
        return self._pool.bytes

    @property
    def adapted_sites(self) -> int:
        """How many sites at least one resident adapter changes."""
        return len(self._sites)

    @contextmanager
    def rows(self, slots: tuple[int, ...]) -> Iterator[None]:
        """Give the rows of every forward in this block, in this thread, these slots."""
        token = CURRENT.set(RowMap(slots))
        try:
            yield
        finally:
            CURRENT.reset(token)

    def _rows(self) -> RowMap:
        return CURRENT.get() or BASE_ROWS

    def _share(
        self, updates: Mapping[str, SiteUpdate], shared: frozenset[str], interned: list[Interned]
    ) -> dict[int, Tensor]:
        """Where each shared tensor lies, by its id: itself, or the same view of what it is a view of."""
        places: dict[int, Tensor] = {}
        wholes: dict[int, Interned] = {}
        for update in updates.values():
            for name in shared & update.tensors().keys():
                tensor = update.tensors()[name]
                # A view of bytes is a piece of a file: not what another adapter's file would hold too.
                root = tensor._base
                whole = tensor if root is None or root.dtype != tensor.dtype else root
                if id(whole) not in wholes:
                    wholes[id(whole)] = self._pool.take(self._to_device(_alone(whole)))
                    interned.append(wholes[id(whole)])
                kept = wholes[id(whole)].tensor
                view = (
                    kept
                    if whole is tensor
                    else kept.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
                )
                places[id(tensor)] = view
        return places

    def _is_placed(self, update: SiteUpdate) -> bool:
        return all(t.device == self.base.device and self.dtype in (None, t.dtype) for t in update.tensors().values())

    def _to_device(self, tensor: Tensor) -> Tensor:
        dtype = self.dtype if self.dtype is not None and tensor.is_floating_point() else tensor.dtype
        return (
            tensor
            if tensor.device == self.base.device and tensor.dtype == dtype
            else tensor.to(self.base.device, dtype)
        )

    def _scoped(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The model's forward with its rows fixed from its first site to its last."""

        @functools.wraps(forward)
        def scoped(*args: Any, **kwargs: Any) -> Any:
            chosen = CURRENT.get()
            if chosen is not None:
                return self._run(chosen, forward, args, kwargs)
            with self._default_rows() as default:
                return self._run(default, forward, args, kwargs)

        return scoped

    @staticmethod
    def _run(rows: RowMap, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = kwargs.get("input_ids", args[0] if args else None)
        inputs = kwargs.get("inputs_embeds") if inputs is None else inputs
        if inputs is not None:
            rows = rows.for_batch(inputs.shape[0], inputs.shape[1])
        token = CURRENT.set(rows)
        try:
            return forward(*args, **kwargs)
        finally:
            CURRENT.reset(token)


def _alone(tensor: Tensor) -> Tensor:
    """The tensor in a block of memory of its own, so that it keeps no file's content alive."""
    return tensor if tensor._base is None else tensor.clone()


def _block(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _sparse_blocks(updates: Mapping[str, SiteUpdate], placed: Mapping[int, Tensor]) -> set[int]:
    """Blocks of memory that an adapter would keep alive for a small part of them, by address."""
    used: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for update in updates.values():
        for tensor in update.tensors().values():
            if tensor._base is not None and id(tensor) not in placed:
                block = _block(tensor)
                used[block] = used.get(block, 0) + tensor.nbytes
                sizes[block] = tensor._base.nbytes
    return {block for block, taken in used.items() if taken < WORTH_KEEPING * sizes[block]}


def _own_bytes(updates: Mapping[str, SiteUpdate], kept: set[int]) -> int:
    tensors = {t.data_ptr(): t for update in updates.values() for t in update.tensors().values()}
    return sum(
        tensor.nbytes
        for address, tensor in tensors.items()
        if not kept or tensor.untyped_storage().data_ptr() not in kept
    )
