"""Residents: the adapters that are registered, those that are on the device, and the work that uses them."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from . import memory, ops
from .base import BaseModel
from .base.loader import DTYPES
from .config import Settings
from .engine import Prompt, Voice, adapter_voice, base_voice, vocabulary_of
from .errors import CorruptFile
from .hookspecs import Fetched
from .loading import AdapterLoader, LoadedAdapter
from .plugin_manager import Plugins
from .runtime import BASE_DIGEST, AdapterBank, HostCopy, HostTier, MergedCache, MergeReport, RowMap, compare
from .store import AdapterInfo, Registry, SlotTable, check_name
from .tiers import Tiers


class Residents:
    """Brings adapters from the registry to slots and back. Safe from any thread.

    Args:
        base: the frozen base.
        plugins: where sources, formats and variants come from.
        registry: the adapters by name.
        settings: types and permissions.
    """

    def __init__(self, base: BaseModel, plugins: Plugins, registry: Registry, settings: Settings) -> None:
        self.base = base
        self.registry = registry
        self.default: str | None = None
        self._loader = AdapterLoader(plugins, settings)
        self._slots = SlotTable()
        self._stacks = ops.StackBudget(settings.stack_bytes)
        make_planner = ops.choose(settings.mixed_path, base.device, self._stacks)
        dtype = DTYPES.get(settings.adapter_dtype)
        self._bank = AdapterBank(base, dtype, self._default_rows, make_planner, self._serving)
        self._merged = MergedCache(self._bank, settings, lambda: self._tiers.tell())
        self._host = HostTier(settings.host_bytes, base.device)
        self._tiers = Tiers(base, registry, self._bank, self._host, self._merged)
        self._changing = threading.RLock()
        own = base_voice(base.tokenizer, base.model.generation_config, vocabulary_of(base, {}))
        self._voices: dict[str | None, Voice] = {None: own}
        self._closed = False

    def close(self) -> None:
        """Unload everything and give the model its own forward back. Once is enough."""
        self._merged.close()
        with self._changing:
            if not self._closed:
                self._closed = True
                self._bank.close()
                self._host.clear()
                self._tiers.close()
                self._loader.close()
                self.registry.close()

    def register(
        self, name: str, ref: str, revision: str | None, tags: tuple[str, ...], any_base: bool | None
    ) -> tuple[AdapterInfo, HostCopy]:
        """Fetch, prove and record an adapter; gives it back in host memory too."""
        check_name(name)
        loaded = self._load(self._loader.fetch(ref, revision), any_base)
        copy = HostCopy(loaded.updates, loaded.shared, self._voice_of(loaded))
        return self.registry.add(_info_of(name, ref, tags, loaded, self.base)), copy

    def make_resident(self, name: str) -> AdapterInfo:
        """Load a registered adapter into a slot, if it is in none.

        Raises:
            CorruptFile: its files are not those that were registered.
        """
        info = self.registry.get(name)
        if self._slots.find(name) is None:
            if info.base_fingerprint == self.base.fingerprint:
                self.install(info, lambda: self._read(info, True))
            else:  # whether this base will do was not asked yet
                self._install(info, self._read(info, None))
        return info

    def _read(self, info: AdapterInfo, any_base: bool | None) -> HostCopy:
        """A registered adapter from its files."""
        kept = Path(info.folder).is_dir()
        fetched = self._loader.fetch(info.folder) if kept else self._loader.fetch(info.source, info.revision)
        loaded = self._load(fetched, any_base)
        if loaded.digest != info.digest:
            raise CorruptFile(
                f"adapter {info.name!r} in {info.folder} is not what was registered: its content has digest "
                f"{loaded.digest[:12]}, not {info.digest[:12]}.",
                hint="Remove it and register it again.",
            )
        return HostCopy(loaded.updates, loaded.shared, self._voice_of(loaded))

    def _load(self, fetched: Fetched, any_base: bool | None) -> LoadedAdapter:
        with _ordinary_tensors():
            return self._loader.load(fetched, self.base, any_base=any_base)

    def install(self, info: AdapterInfo, read: Callable[[], HostCopy]) -> None:
        """Put a proven adapter into a slot, out of the host tier if it is there."""
        with _ordinary_tensors(), self._host.holding(info.digest, read) as copy:
            self._install(info, copy)

    def _install(self, info: AdapterInfo, copy: HostCopy) -> None:
        """Write an adapter into a slot and publish it, or share the slot that has its content."""
        with self._changing:
            self._voices[info.name] = copy.voice
            if self._slots.find(info.name) is not None or self._slots.share(info.name, info.digest):
                return
            slot = self._slots.reserve()
            try:
                with _ordinary_tensors(), self._tiers.device.loading():
                    self._write(slot, copy)
            except BaseException:
                self._slots.give_back(slot)
                raise
            self._merged.attach(slot, info.digest)
            self._slots.publish(slot, info.name, info.digest)
        self._tiers.tell()

    def _write(self, slot: int, copy: HostCopy) -> None:
        """Write a slot; where the device has no memory left for it, what is merged gives up its own."""
        try:
            self._bank.install(slot, copy.updates, copy.shared)
        except Exception as error:
            if not memory.is_shortage(error) or not self._merged.surrender(copy.num_bytes):
                raise
        else:
            return
        self._bank.install(slot, copy.updates, copy.shared)

    def unload(self, name: str | None, *, keep_on_host: bool = False) -> None:
        """Take one adapter, or all, off the device; the default goes back to the base with it."""
        with self._changing:
            digest = None if name is None else self.registry.get(name).digest
            going = self._slots.names() if name is None else [name]
            voices = {self._slots.find(gone): self._voices.get(gone) for gone in going}
            for slot in self._slots.retire(going):
                self._clear(slot, voices[slot] if keep_on_host else None)
            for gone in going:
                self._voices.pop(gone, None)
            if self.default in going:
                self.default = None
            if name is None:
                self._merged.unmerge(BASE_DIGEST)
            if not keep_on_host:
                self._forget_on_host(digest)
        if not keep_on_host:
            memory.give_back(self.base.device)
        self._tiers.tell()

    def _clear(self, slot: int, voice: Voice | None) -> None:
        """Empty a retired slot and free what was merged from it; with its voice, its content goes to the host tier."""
        digest = self._merged.digest_of(slot)
        copy = None
        if voice is not None and not self._host.apart:
            updates = {path: update for path, (update, _) in self._bank.contents(slot).items()}
            copy = HostCopy(updates, self._bank.shared(slot), voice)
        self._merged.detach(slot)
        self._bank.clear(slot)
        self._slots.give_back(slot)
        if copy is not None:
            self._host.keep(digest, copy)

    def _forget_on_host(self, digest: str | None) -> None:
        """Free the host's copy of an adapter, or of all, where it is in no slot any more."""
        for known in self._host.listing() if digest is None else [digest]:
            if known not in self._merged.digests():
                self._host.drop(known)

    def remove(self, name: str) -> None:
        """Unload an adapter and take it out of the registry."""
        with self._changing:
            self.unload(name)
            self.registry.remove(name)

    def choose(self, name: str | None) -> None:
        """Make an adapter the default, loading it if it is not resident."""
        if name is not None and self._slots.find(name) is None:
            self.make_resident(name)
        self.default = name

    def voice(self, name: str | None) -> Voice:
        """Tokenizer and template of a leased adapter, or of the base."""
        return self._voices[name]

    def with_residency(self, info: AdapterInfo) -> AdapterInfo:
        """The same facts, with whether the adapter is on the device now."""
        return replace(info, resident=self._slots.find(info.name) is not None)

    @contextmanager
    def rows(self, names: Sequence[str | None]) -> Iterator[None]:
        """Hold these adapters and put them in force, one a batch row, for this thread's forwards."""
        with self._leased(names) as slots, self._bank.rows(slots):
            yield

    @contextmanager
    def hold(self, names: Sequence[str | None]) -> Iterator[contextvars.Context]:
        """Hold these adapters, and give a context in which they are in force: for work in another thread.

        A generator cannot keep them in force in its own thread: its caller runs between its pieces.
        """
        with self._leased(names) as slots:
            with self._bank.rows(slots):
                context = contextvars.copy_context()
            yield context

    def merge(self, name: str | None, *, pin: bool) -> MergeReport:
        """Make merged weights of an adapter, or of the base, and have every batch of its own run them."""
        with self._leased([name]) as (slot,):
            merged = self._merged.merge(self._merged.digest_of(slot), pin=pin)
            self._tiers.tell()
            return compare(self.base, name, slot, merged)

    def unmerge(self, name: str | None) -> None:
        """Free an adapter's merged weights, or the base's."""
        digest = BASE_DIGEST if name is None else self.registry.get(name).digest
        self._merged.unmerge(digest)
        self._tiers.tell()

    def merge_report(self, name: str | None, prompts: Sequence[Prompt]) -> MergeReport:
        """Run prompts on both paths. What was not merged before is not afterwards."""
        with self._leased([name]) as (slot,):
            digest, voice = self._merged.digest_of(slot), self.voice(name)
            known = self._merged.has(digest)
            try:
                with self._merged.holding(digest) as merged:
                    return compare(self.base, name, slot, merged, [voice.encode(prompt) for prompt in prompts])
            finally:
                if not known:
                    self._merged.unmerge(digest)

    def memory(self) -> memory.MemoryReport:
        """Where the bytes are."""
        slots = {name: self._slots.find(name) for name in self._slots.names()}
        adapters = {name: self._bank.bytes(slot) for name, slot in slots.items() if slot is not None}
        return self._tiers.memory(adapters, self._stacks.used)

    def in_flight(self) -> dict[str, int]:
        """Rows of running work by resident adapter."""
        return self._slots.in_flight()

    def _voice_of(self, loaded: LoadedAdapter) -> Voice:
        vocabulary = vocabulary_of(self.base, loaded.updates)
        return adapter_voice(self._voices[None], loaded.tokenizer, loaded.chat_template, vocabulary)

    def _serving(self, rows: RowMap, num_tokens: int) -> AbstractContextManager[RowMap]:
        return self._merged.serving(rows, num_tokens)

    @contextmanager
    def _leased(self, names: Sequence[str | None]) -> Iterator[tuple[int, ...]]:
        slots = self._slots.lease(names)
        count = self._tiers.device.hit if slots is not None else self._tiers.device.miss
        count(sum(name is not None for name in names))
        while slots is None:
            for name in names:
                if name is not None:
                    self.make_resident(name)
            slots = self._slots.lease(names)
        try:
            yield slots
        finally:
            self._slots.release(names)

    @contextmanager
    def _default_rows(self) -> Iterator[RowMap]:
        while (slots := self._slots.lease([name := self.default])) is None:
            if name is not None and name == self.default:
                self.make_resident(name)
        try:
            yield RowMap(everywhere=slots[0])
        finally:
            self._slots.release([name])


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
