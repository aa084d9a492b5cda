"""Residents: the adapters that are registered, those that are on the device, and the work that uses them."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import torch

from . import memory, ops
from .base import BaseModel
from .base.loader import DTYPES
from .config import Settings
from .engine import Voice, adapter_voice, base_voice, vocabulary_of
from .errors import NotRegistered
from .hookspecs import Fetched
from .loading import AdapterLoader, LoadedAdapter, check_files, fetch_registered, hold_digest
from .plugin_manager import Plugins
from .room import SlotRoom
from .runtime import BASE_DIGEST, AdapterBank, HostCopy, HostTier, MergedCache, RowMap
from .store import AdapterInfo, Reference, Registry, SlotTable, check_name, check_tags
from .tiers import Tiers


@dataclass(frozen=True)
class Chosen:
    """The default adapter: what it was called when it was chosen, and which version that was then."""

    asked: str
    key: str


class Residents:
    """Brings adapters from the registry to slots and back. Safe from any thread.

    A reference is resolved once, when a call begins; from there on the version's key (``name@version``) stands
    for it, so that a call ends on the version with which it began.

    Args:
        base: the frozen base.
        plugins: where sources, formats and variants come from.
        registry: the adapters by name.
        settings: types and permissions.
    """

    def __init__(self, base: BaseModel, plugins: Plugins, registry: Registry, settings: Settings) -> None:
        self.base = base
        self.registry = registry
        self.default: Chosen | None = None
        self._loader = AdapterLoader(plugins, settings)
        self._slots = SlotTable(settings.max_resident, settings.device_bytes, self._is_pinned)
        self._stacks = ops.StackBudget(settings.stack_bytes)
        make_planner = ops.choose(settings.mixed_path, base.device, self._stacks)
        dtype = DTYPES.get(settings.adapter_dtype)
        self._bank = AdapterBank(base, dtype, self._default_rows, make_planner, self._serving)
        self.merged = MergedCache(self._bank, settings, lambda: self.tiers.tell())
        self._host = HostTier(settings.host_bytes, base.device)
        self.tiers = Tiers(base, registry, self._bank, self._host, self.merged)
        self._changing = threading.RLock()
        self.room = SlotRoom(registry, self._slots, self._bank, self._changing, self.make_resident, self._evict)
        own = base_voice(base.tokenizer, base.model.generation_config, vocabulary_of(base, {}))
        self._voices: dict[str | None, Voice] = {None: own}
        self._closed = False

    def close(self) -> None:
        """Unload everything and give the model its own forward back. Once is enough."""
        self.merged.close()
        with self._changing:
            if not self._closed:
                self._closed = True
                self._bank.close()
                self._host.clear()
                self.tiers.close()
                self._loader.close()
                self.registry.close()

    def register(
        self, name: str, ref: str, revision: str | None, tags: tuple[str, ...], any_base: bool | None, *, pin: bool
    ) -> tuple[AdapterInfo, HostCopy]:
        """Fetch, prove and record an adapter; gives it back in host memory too."""
        check_name(name)
        check_tags(tags)
        loaded = self._load(self._loader.fetch(ref, revision), any_base)
        info = _info_of(name, ref, tags, loaded, self.base)
        info = replace(info, warnings=(*info.warnings, *self._overwritten(info)))
        copy = HostCopy(loaded.updates, loaded.shared, self._voice_of(loaded))
        return self.registry.add(info, pin=pin), copy

    def _overwritten(self, info: AdapterInfo) -> list[str]:
        """Versions of the same name that lay in the same folder: their content is lost, as far as is known here."""
        known = self.registry.versions(info.name) if self.registry.knows(info.name) else []
        return [
            f"{other.key} was registered from this folder too, and can be served from there no more."
            for other in known
            if other.folder == info.folder and other.digest != info.digest
        ]

    def rollback(self, name: str, version: int | None) -> AdapterInfo:
        """Make another version current, if its files are still what they were.

        Raises:
            SourceError: its files are gone.
            FormatError: they are not what was registered.
        """
        target = self.registry.previous(name) if version is None else self.registry.get(f"{name}@{version}")
        check_files(self._loader, target)
        return self.registry.rollback(name, target.version)

    def resolve(self, refs: Sequence[str | None]) -> list[str | None]:
        """Keys of the versions that references stand for now; None, the base, stays None.

        Raises:
            NotRegistered: there is none.
        """
        return [None if info is None else info.key for info in self.registry.resolve(refs)]

    def _is_pinned(self, key: str) -> bool:
        try:
            return self.registry.get(key).pinned
        except NotRegistered:  # removed by somebody else; what is resident goes when its slot is wanted
            return False

    def make_resident(self, ref: str) -> AdapterInfo:
        """Load what a reference stands for into a slot, if it is in none.

        Raises:
            CorruptFile: its files are not those that were registered.
        """
        info = self.registry.get(ref)
        if self._slots.find(info.key) is None:
            if info.base_fingerprint == self.base.fingerprint:
                self.install(info, lambda: self._read(info, True))
            else:  # whether this base will do was not asked yet
                self._install(info, self._read(info, None))
        return info

    def _read(self, info: AdapterInfo, any_base: bool | None) -> HostCopy:
        """A registered adapter from its files."""
        fetched = fetch_registered(self._loader, info)
        loaded = self._load(fetched, any_base)
        hold_digest(info, fetched.folder, loaded.digest)
        return HostCopy(loaded.updates, loaded.shared, self._voice_of(loaded))

    def _load(self, fetched: Fetched, any_base: bool | None) -> LoadedAdapter:
        with _ordinary_tensors():
            return self._loader.load(fetched, self.base, any_base=any_base)

    def install(self, info: AdapterInfo, read: Callable[[], HostCopy]) -> None:
        """Put a proven adapter into a slot, out of the host tier if it is there.

        Raises:
            NoRoom: no slot is free or idle.
        """
        with _ordinary_tensors(), self._host.holding(info.digest, read) as copy:
            self._install(info, copy)

    def _install(self, info: AdapterInfo, copy: HostCopy) -> None:
        """Write an adapter into a slot and publish it, or share the slot that has its content."""
        with self._changing:
            self._voices[info.key] = copy.voice
            if self._slots.find(info.key) is not None or self._slots.share(info.key, info.digest):
                return
            slot = self.room.take(info)
            try:
                with _ordinary_tensors(), self.tiers.device.loading():
                    self._write(slot, copy)
            except BaseException:
                self._slots.give_back(slot)
                raise
            self.merged.attach(slot, info.digest)
            self._slots.publish(slot, info.key, info.digest, self._bank.bytes(slot))
        self.tiers.tell()

    def _write(self, slot: int, copy: HostCopy) -> None:
        """Write a slot; where the device has no memory left for it, what is merged gives up its own."""
        try:
            self._bank.install(slot, copy.updates, copy.shared)
        except Exception as error:
            if not memory.is_shortage(error) or not self.merged.surrender(copy.num_bytes):
                raise
        else:
            return
        self._bank.install(slot, copy.updates, copy.shared)

    def unload(self, ref: str | None, *, keep_on_host: bool = False) -> None:
        """Take what a reference covers, or all, off the device; the default goes back to the base with it."""
        with self._changing:
            keys = self._slots.names() if ref is None else self._covered(ref)
            digests = None if ref is None else [self._digest_of(key) for key in keys]
            self._take_off(keys, keep_on_host=keep_on_host)
            if ref is None:
                self.merged.unmerge(BASE_DIGEST)
            if not keep_on_host:
                self._forget_on_host(digests)
        if not keep_on_host:
            memory.give_back(self.base.device)
        self.tiers.tell()

    def _digest_of(self, key: str) -> str:
        slot = self._slots.find(key)
        return self.registry.get(key).digest if slot is None else self.merged.digest_of(slot)

    def _evict(self, slot: int, key: str) -> None:
        """Empty a slot that has to make way; its content stays in host memory, as far as there is room."""
        start = time.perf_counter()
        self._clear(slot, self._voices.get(key))
        self.tiers.device.evicted(time.perf_counter() - start)

    def _clear(self, slot: int, voice: Voice | None) -> None:
        """Empty a retired slot and free what was merged from it; with its voice, its content goes to the host tier."""
        digest = self.merged.digest_of(slot)
        copy = None
        if voice is not None and not self._host.apart:
            updates = {path: update for path, (update, _) in self._bank.contents(slot).items()}
            copy = HostCopy(updates, self._bank.shared(slot), voice)
        self.merged.detach(slot)
        self._bank.clear(slot)
        self._slots.give_back(slot)
        if copy is not None:
            self._host.keep(digest, copy)

    def _forget_on_host(self, digests: Sequence[str] | None) -> None:
        """Free the host's copies of these adapters, or of all, where they are in no slot any more."""
        for known in self._host.listing() if digests is None else digests:
            if known not in self.merged.digests():
                self._host.drop(known)

    def _covered(self, ref: str) -> list[str]:
        """Keys of a version or, by a bare name, of all resident ones. What others have removed is still here."""
        asked = Reference.parse(ref)
        if asked.alias is None:
            resident = map(Reference.parse, self._slots.names())
            keys = [str(key) for key in resident if key == asked or (asked.is_name and key.name == asked.name)]
            if keys:
                return keys
        return [self.registry.get(ref).key]

    def _take_off(self, keys: Sequence[str], *, keep_on_host: bool = False) -> None:
        voices = {self._slots.find(key): self._voices.get(key) for key in keys}
        for slot in self._slots.retire(keys):
            self._clear(slot, voices[slot] if keep_on_host else None)
        for gone in keys:
            self._voices.pop(gone, None)
        if self.default is not None and self.default.key in keys:
            self.default = None

    def remove(self, ref: str) -> None:
        """Unload an adapter and take it out of the registry; both, or neither."""
        with self._changing, self.registry.removing(ref) as gone:
            self._take_off([info.key for info in gone])

    def choose(self, ref: str | None) -> None:
        """Make what a reference stands for now the default, loading it if it is not resident."""
        (key,) = self.resolve([ref])
        if ref is None or key is None:
            self.default = None
            return
        if self._slots.find(key) is None:
            self.make_resident(key)
        self.registry.count_uses([key])
        self.default = Chosen(ref, key)

    def voice(self, key: str | None) -> Voice:
        """Tokenizer and template of a version, or of the base.

        An adapter that has not been loaded yet is, into host memory alone: its turn to have a slot comes later.
        """
        if key is not None and key not in self._voices:
            info = self.registry.get(key)
            known = info.base_fingerprint == self.base.fingerprint
            with _ordinary_tensors():
                self._voices[key] = self._host.glance(
                    info.digest, lambda: self._read(info, True if known else None)
                ).voice
        return self._voices[key]

    def with_residency(self, info: AdapterInfo) -> AdapterInfo:
        """The same facts, with whether the adapter is on the device now."""
        return replace(info, resident=self._slots.find(info.key) is not None)

    @contextmanager
    def rows(self, keys: Sequence[str | None]) -> Iterator[None]:
        """Hold these adapters and put them in force, one a batch row, for this thread's forwards."""
        with self.leased(keys) as slots, self._bank.rows(slots):
            yield

    @contextmanager
    def hold(self, key: str | None) -> Iterator[contextvars.Context]:
        """Hold an adapter, and give a context in which it is in force: for work in another thread.

        A generator cannot keep it in force in its own thread: its caller runs between its pieces.
        """
        with self.leased([key]) as slots:
            with self._bank.rows(slots):
                context = contextvars.copy_context()
            yield context

    def memory(self) -> memory.MemoryReport:
        """Where the bytes are."""
        slots = {key: self._slots.find(key) for key in self._slots.names()}
        adapters = {key: self._bank.bytes(slot) for key, slot in slots.items() if slot is not None}
        return self.tiers.memory(adapters, self._stacks.used)

    def in_flight(self) -> dict[str, int]:
        """Rows of running work by the key of each resident version."""
        return self._slots.in_flight()

    def _voice_of(self, loaded: LoadedAdapter) -> Voice:
        vocabulary = vocabulary_of(self.base, loaded.updates)
        return adapter_voice(self._voices[None], loaded.tokenizer, loaded.chat_template, vocabulary)

    def _serving(self, rows: RowMap, num_tokens: int) -> AbstractContextManager[RowMap]:
        return self.merged.serving(rows, num_tokens)

    @contextmanager
    def leased(self, keys: Sequence[str | None]) -> Iterator[tuple[int, ...]]:
        """Hold adapters in their slots, brought there if need be, for the block."""
        slots = self._slots.lease(keys)
        count = self.tiers.device.hit if slots is not None else self.tiers.device.miss
        count(sum(key is not None for key in keys))
        while slots is None:
            for key in keys:
                if key is not None:
                    self.make_resident(key)
            slots = self._slots.lease(keys)
        try:
            yield slots
        finally:
            self._slots.release(keys)

    @contextmanager
    def _default_rows(self) -> Iterator[RowMap]:
        while (slots := self._slots.lease([key := self._default_key()])) is None:
            if key is not None and key == self._default_key():
                self.make_resident(key)
        try:
            yield RowMap(everywhere=slots[0])
        finally:
            self._slots.release([key])

    def _default_key(self) -> str | None:
        default = self.default
        return None if default is None else default.key


@contextmanager
def _ordinary_tensors() -> Iterator[None]:
    """Make tensors that outlive the caller's mode: those of inference mode know no views, and no later gradients."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _info_of(name: str, ref: str, tags: tuple[str, ...], loaded: LoadedAdapter, base: BaseModel) -> AdapterInfo:
    return AdapterInfo(
        name=name,
        digest=loaded.digest,
        source=ref,
        revision=loaded.fetched.revision,
        folder=str(loaded.fetched.folder),
        format=loaded.format,
        variant=loaded.variant,
        sites=len(loaded.updates),
        ranks=loaded.ranks,
        bytes=loaded.bytes,
        base_name=loaded.base_name,
        base_fingerprint=base.fingerprint,
        tags=tags,
        warnings=loaded.warnings,
        registered_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
