"""The bank: the updates of all resident adapters at the sites of one model, and the rows of each forward."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from .. import cores
from ..base import BaseModel
from ..ops import MakePlanner
from ..ops.plan import BaseCall
from ..store import BASE_SLOT
from ..updates import LinearUpdate, SiteUpdate
from .interning import Interned, InternPool
from .invocations import Invocations
from .rowmap import CURRENT, RowMap, in_force
from .site import AdaptedSite
from .transfer import Transfer
from .wholes import Wholes

WORTH_KEEPING = 0.95
SiteContent = tuple[SiteUpdate, BaseCall]
# From the rows of a forward and its number of tokens: the same rows with what is merged for them, held meanwhile.
Serving = Callable[[RowMap, int], AbstractContextManager[RowMap]]


class AdapterBank:
    """Puts updates into slots and lets each forward of the model see the right ones.

    Args:
        base: the frozen model. Only the ``forward`` of its modules is covered, and only while needed.
        dtype: type in which updates are kept; None keeps each tensor as its file has it.
        default_rows: a context manager that holds the default adapter for one forward and gives its rows.
        make_planner: how batches of several adapters are computed.
        serving: which merged weights a forward runs.
    """

    def __init__(
        self,
        base: BaseModel,
        dtype: torch.dtype | None,
        default_rows: Callable[[], AbstractContextManager[RowMap]],
        make_planner: MakePlanner,
        serving: Serving,
    ) -> None:
        self.base = base
        self.dtype = dtype
        self._default_rows = default_rows
        self._make_planner = make_planner
        self._serving = serving
        self._sequence_first = base.sequence_first
        self._sites: dict[str, AdaptedSite] = {}
        self._covered: frozenset[str] = frozenset()
        self._attaching = threading.RLock()
        self._bytes: dict[int, int] = {}
        self._invocations = Invocations()
        self._pool = InternPool()
        self._transfer = Transfer(base.device)
        self._interned: dict[int, list[Interned]] = {}
        self._captures: tuple[object, frozenset[int]] | None = None  # until the next change
        self._forward = base.model.forward
        base.model.forward = self._scoped(self._forward)

    def close(self) -> None:
        """Give the model back as it was."""
        for slot in list(self._bytes):
            self.clear(slot)
        self.cover(())
        del self.base.model.forward
        if self.base.model.forward != self._forward:
            self.base.model.forward = self._forward

    def install(
        self,
        slot: int,
        updates: Mapping[str, SiteUpdate],
        shared: Sequence[Tensor] = (),
        invocation: tuple[int, ...] = (),
    ) -> None:
        """Write an adapter's updates into a slot that no row uses yet; all sites or, on an error, none.

        Args:
            slot: its number.
            updates: by site path; tensors already on the device are taken as they are.
            shared: tensors to be kept once for all who have equal ones; updates may use views of them.
            invocation: token ids from which on a row uses the slot; empty for all of its tokens.
        """
        self._captures = None
        interned = self._interned[slot] = []
        try:
            resident = self._place(updates, shared, interned)
            self._transfer.finish()
            with self._attaching:
                for path, update in resident.items():
                    self._site(path).install(slot, update)
        except BaseException:
            self.clear(slot)
            raise
        kept = {_block(kept.tensor) for kept in interned}
        self._captures = None
        own = {t.data_ptr(): t for t in _tensors(resident) if not kept or _block(t) not in kept}
        self._bytes[slot] = sum(tensor.nbytes for tensor in own.values())
        if invocation:
            self._invocations.of_slot[slot] = invocation
        cores.release()  # others may be computing meanwhile

    def clear(self, slot: int) -> None:
        """Empty a slot; sites that no adapter changes any more are the base's own again."""
        self._captures = None
        with self._attaching:
            for site in self._sites.values():
                site.clear(slot)
            self._detach_bare()
        self._bytes.pop(slot, None)
        self._invocations.of_slot.pop(slot, None)
        for kept in self._interned.pop(slot, ()):
            self._pool.give_back(kept)

    def capture_key(self, slots: Sequence[int]) -> object | None:
        """What a graph captured for these slots depends on; None where none can be.

        Equal keys: whatever came and went meanwhile, a graph that was captured is right.
        """
        if self._captures is None:
            sites = list(self._sites.items())
            structures = tuple((path, site.structure) for path, site in sites)
            alone = frozenset(slot for _, site in sites for slot in site.alone)
            known = all(structure is not None for _, structure in structures)
            self._captures = structures if known else None, alone
        key, alone = self._captures
        return None if not alone.isdisjoint(slots) else key

    def cover(self, paths: Iterable[str]) -> None:
        """Stand at these sites, and no others, also while no adapter changes them: merged weights of the base do."""
        with self._attaching:
            self._captures = None
            self._covered = frozenset(paths)
            for path in self._covered:
                self._site(path)
            self._detach_bare()

    def contents(self, slot: int) -> dict[str, SiteContent]:
        """By path, the update of each site that a slot changes, and the base's own product there.

        The base's slot changes nothing: its sites are the linears that are stored in fewer bits than they compute in.
        """
        with self._attaching:
            if slot != BASE_SLOT:
                sites = self._sites.items()
                return {path: (site.updates[slot], site.base) for path, site in sites if slot in site.updates}
            return {path: (LinearUpdate(), self._base_call(path)) for path in self.base.packed_sites()}

    def _site(self, path: str) -> AdaptedSite:
        site = self._sites.get(path)
        if site is None:
            module = self.base.module(path)
            is_head = module is self.base.model.get_output_embeddings()
            turned = path in self._sequence_first
            site = AdaptedSite(module, self._rows, self._make_planner, path, is_head=is_head, sequence_first=turned)
            self._sites[path] = site
            site.attach()
        return site

    def _base_call(self, path: str) -> BaseCall:
        site = self._sites.get(path)
        return self.base.module(path).forward if site is None else site.base

    def _detach_bare(self) -> None:
        for path, site in list(self._sites.items()):
            if not site.updates and path not in self._covered:
                site.detach()
                del self._sites[path]

    def invocation(self, slot: int) -> tuple[int, ...]:
        """Token ids from which on a row uses a slot; empty for all of its tokens."""
        return self._invocations.of_slot.get(slot, ())

    def shared(self, slot: int) -> tuple[Tensor, ...]:
        """The shared tensors that a slot uses parts of."""
        return tuple(kept.tensor for kept in self._interned.get(slot, ()))

    def bytes(self, slot: int) -> int:
        """Device bytes of a slot's own tensors; shared ones are not among them."""
        return self._bytes.get(slot, 0)

    def shared_blocks(self, slot: int) -> dict[Hashable, int]:
        """Device bytes of each shared tensor that a slot uses parts of, by a number that is the tensor's own."""
        return {id(kept): kept.tensor.nbytes for kept in self._interned.get(slot, ())}

    def cost(self, updates: Mapping[str, SiteUpdate], shared: Sequence[Tensor] = ()) -> int:
        """Device bytes that an adapter takes in a slot, if nobody else has its shared tensors."""
        wholes = Wholes(shared)
        own = {t.data_ptr(): t for t in _tensors(updates) if wholes.part(t, wholes.tensors) is None}
        return sum(t.numel() * self._kept_type(t).itemsize for t in (*own.values(), *shared))

    @property
    def shared_bytes(self) -> int:
        """Device bytes of shared tensors, each once."""
        return self._pool.bytes

    @contextmanager
    def rows(self, slots: tuple[int, ...]) -> Iterator[None]:
        """Give the rows of every forward in this block, in this thread, these slots."""
        with in_force(RowMap(slots)):
            yield

    def _rows(self) -> RowMap:
        chosen = CURRENT.get()
        if chosen is not None:
            return chosen
        # A part of the model that is called by itself (``model.model``, one layer) follows the default as well.
        with self._default_rows() as default:
            return default

    def _place(
        self, updates: Mapping[str, SiteUpdate], shared: Sequence[Tensor], interned: list[Interned]
    ) -> Mapping[str, SiteUpdate]:
        """The same updates over tensors on the device, shared ones in their kept place."""
        wholes = Wholes(shared)
        for tensor in wholes.tensors:
            sent = self._to_device(_alone(tensor))
            self._transfer.finish()  # the pool reads it
            interned.append(self._pool.take(sent))
        kept = [one.tensor for one in interned]
        tensors = list(_tensors(updates))
        sparse = _sparse_blocks(tensors)
        if not kept and not sparse and all(map(self._is_placed, tensors)):
            return updates

        def place(tensor: Tensor) -> Tensor:
            part = wholes.part(tensor, kept)
            if part is not None:
                return part
            return self._to_device(tensor.clone() if sparse and _block(tensor) in sparse else tensor)

        return {path: update.map_tensors(place) for path, update in updates.items()}

    def _is_placed(self, tensor: Tensor) -> bool:
        return tensor.device == self.base.device and self.dtype in (None, tensor.dtype)

    def _to_device(self, tensor: Tensor) -> Tensor:
        return self._transfer.send(tensor, self._kept_type(tensor))

    def _kept_type(self, tensor: Tensor) -> torch.dtype:
        return self.dtype if self.dtype is not None and tensor.is_floating_point() else tensor.dtype

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

    def _run(self, rows: RowMap, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = kwargs.get("input_ids", args[0] if args else None)
        embedded = kwargs.get("inputs_embeds") if inputs is None else inputs
        num_tokens = 0
        if embedded is not None:
            rows = rows.for_batch(embedded.shape[0], embedded.shape[1])
            num_tokens = embedded.shape[0] * embedded.shape[1]
            if self._invocations.of_slot:
                rows = self._invocations.cut(
                    rows, embedded.shape[0], inputs, kwargs.get("attention_mask"), kwargs.get("past_key_values")
                )
        with self._serving(rows, num_tokens) as served, in_force(served):
            return forward(*args, **kwargs)


def _tensors(updates: Mapping[str, SiteUpdate]) -> Iterator[Tensor]:
    for update in updates.values():
        yield from update.tensors().values()


def _alone(tensor: Tensor) -> Tensor:
    """The tensor in a block of memory of its own, so that it keeps no file's content alive."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _block(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _sparse_blocks(tensors: Sequence[Tensor]) -> set[int]:
    """Blocks of memory that an adapter would keep alive for a small part of them, by address."""
    used: dict[int, tuple[Tensor, int]] = {}
    for tensor in tensors:
        root = tensor._base
        if root is not None:
            used[id(root)] = (root, used.get(id(root), (root, 0))[1] + tensor.nbytes)
    return {_block(root) for root, taken in used.values() if taken < WORTH_KEEPING * root.nbytes}
