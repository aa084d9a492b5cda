"""Residents: the adapters that are registered, those that are on the device, and the work that uses them."""

from __future__ import annotations

import contextvars
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from . import memory
from .base import BaseModel
from .config import Settings
from .effects import SiteEffect, effects
from .engine import Voice, adapter_voice, base_voice, check_defaults, vocabulary_of
from .errors import NoRoom
from .loading import LoadedAdapter, Options
from .placing import Places
from .plugin_manager import Plugins
from .reading import Reader, ordinary_tensors
from .runtime import HostCopy, RowMap
from .store import AdapterInfo, Reference, Registry
from .store.expression import Expression, is_expression


@dataclass(frozen=True)
class Chosen:
    """The default adapter: what it was called when it was chosen, and which version that was then."""

    asked: str
    key: str


class Residents:
    """Brings adapters from the registry to slots and back. Safe from any thread.

    A reference is resolved once, when a call begins; from there on the key that ``resolve`` gave stands for it, so
    that a call ends on the version with which it began.

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
        self.reader = Reader(base, plugins, registry, settings)
        self.places = Places(base, self.reader, settings, self._default_rows, self.make_resident)
        own = base_voice(base.tokenizer, base.model.generation_config, vocabulary_of(base, {}))
        self.places.voices[None] = own
        self._closed = False

    def close(self) -> None:
        """Unload everything and give the model its own forward back. Once is enough."""
        with self.places.changing:
            if not self._closed:
                self._closed = True
                self.places.close()
                self.reader.close()
                self.registry.close()

    def register(
        self,
        name: str,
        ref: str,
        revision: str | None,
        tags: tuple[str, ...],
        any_base: bool | None,
        options: Options | None = None,
        *,
        pin: bool = False,
        defaults: Mapping[str, Any] | None = None,
    ) -> tuple[AdapterInfo, HostCopy]:
        """Fetch, prove and record an adapter; gives it back in host memory too."""
        checked = {key: value for key, value in check_defaults(defaults or {}).items() if value is not None}
        info, loaded = self.reader.prove(name, ref, revision, tags, any_base, options)
        copy = self._copy_of(loaded)
        return self.registry.add(replace(info, defaults=checked), pin=pin), copy

    def resolve(self, refs: Sequence[str | None]) -> list[str | None]:
        """Keys of what references stand for now; see ``Reader.resolve``."""
        return self.reader.resolve(refs)

    def make_resident(self, ref: str, keep: Collection[str] = ()) -> AdapterInfo:
        """Load what a reference stands for into a slot, if it is in none.

        Args:
            ref: the reference.
            keep: keys of adapters that do not make way for it.

        Raises:
            CorruptFile: its files are not those that were registered.
            NoRoom: no slot is free or idle, or there is no memory to read it.
        """
        (key,) = self.resolve([ref])
        assert key is not None
        info = self.reader.known(key)
        if self.places.slots.find(key) is None:
            if info.base_fingerprint == self.base.fingerprint:
                self.places.install(info, lambda: self._read(key), keep)
            else:  # whether this base will do was not asked yet
                self.places.install_copy(info, self._read(key), keep)
        return info

    def loaded(self, ref: str, base: BaseModel | None = None) -> tuple[LoadedAdapter, Voice]:
        """What a reference stands for in host memory, held against ``base`` if given, with what it speaks with."""
        (key,) = self.resolve([ref])
        assert key is not None
        loaded = self.reader.read(key, base)
        return loaded, self._voice_of(loaded)

    def effects(self, ref: str) -> tuple[SiteEffect, ...]:
        """What a reference stands for, measured against the base site by site."""
        return effects(self.loaded(ref)[0].updates, self.base)

    def tier(self, ref: str) -> Literal["device", "host", "disk"]:
        """The nearest place where what a reference stands for lies now."""
        (key,) = self.resolve([ref])
        assert key is not None
        digest = self.reader.known(key).digest
        if self.places.slots.find(key) is not None or digest in self.places.merged.digests():
            return "device"
        return "host" if digest in self.places.host.listing() else "disk"

    def unload(self, ref: str | None, *, keep_on_host: bool = False) -> None:
        """Take what a reference covers, or all, off the device; the default goes back to the base with it."""
        with self.places.changing:
            keys = None if ref is None else self._covered(ref)
            self.places.unload(keys, keep_on_host=keep_on_host)
            self._forget_default(keys)

    def _covered(self, ref: str) -> list[str]:
        """Keys of a version or, by a bare name, of all resident ones. What others have removed is still here."""
        if is_expression(ref):
            return [str(key) for key in self.resolve([ref])]
        asked = Reference.parse(ref)
        if asked.alias is None:
            resident = [Reference.parse(key) for key in self.places.slots.names() if not is_expression(key)]
            keys = [str(key) for key in resident if key == asked or (asked.is_name and key.name == asked.name)]
            if keys:
                return keys
        return [self.registry.get(ref).key]

    def _forget_default(self, keys: Sequence[str] | None) -> None:
        if self.default is not None and (keys is None or self.default.key in keys):
            self.default = None

    def remove(self, ref: str) -> None:
        """Unload an adapter, with every sum that it is in, and take it out of the registry; all, or nothing."""
        with self.places.changing, self.registry.removing(ref) as gone:
            keys = {info.key for info in gone}
            sums = [key for key in self.places.slots.names() if is_expression(key)]
            keys.update(key for key in sums if not keys.isdisjoint(Expression.parse(key).weights))
            self.places.take_off(sorted(keys))
            self._forget_default(sorted(keys))

    def choose(self, ref: str | None) -> None:
        """Make what a reference stands for now the default, loading it if it is not resident."""
        (key,) = self.resolve([ref])
        if ref is None or key is None:
            self.default = None
            return
        if self.places.slots.find(key) is None:
            self.make_resident(key)
        self.reader.count_uses([key])
        self.default = Chosen(ref, key)

    def voice(self, key: str | None) -> Voice:
        """Tokenizer and template of an adapter, or of the base.

        An adapter that has not been loaded yet is, into host memory alone: its turn to have a slot comes later.
        """
        voices = self.places.voices
        if key is not None and key not in voices:
            info = self.reader.known(key)
            with ordinary_tensors():
                voices[key] = self.places.host.glance(info.digest, lambda: self._read(key)).voice
        return voices[key]

    def with_residency(self, info: AdapterInfo) -> AdapterInfo:
        """The same facts, with whether the adapter is on the device now."""
        return replace(info, resident=self.places.slots.find(info.key) is not None)

    @contextmanager
    def rows(self, keys: Sequence[str | None]) -> Iterator[None]:
        """Hold these adapters and put them in force, one a batch row, for this thread's forwards."""
        with self.leased(keys) as slots, self.places.bank.rows(slots):
            yield

    @contextmanager
    def hold(self, key: str | None) -> Iterator[contextvars.Context]:
        """Hold an adapter, and give a context in which it is in force: for work in another thread.

        A generator cannot keep it in force in its own thread: its caller runs between its pieces.
        """
        with self.leased([key]) as slots:
            with self.places.bank.rows(slots):
                context = contextvars.copy_context()
            yield context

    @contextmanager
    def leased(self, keys: Sequence[str | None]) -> Iterator[tuple[int, ...]]:
        """Hold adapters in their slots, brought there if need be, for the block.

        Raises:
            NoRoom: there is none for all of them at once.
        """
        slots = self.places.slots.lease(keys)
        count = self.places.tiers.device.hit if slots is not None else self.places.tiers.device.miss
        count(sum(key is not None for key in keys))
        if slots is None:
            slots = self._bring(keys)
        try:
            yield slots
        finally:
            self.places.slots.release(keys)

    def _bring(self, keys: Sequence[str | None]) -> tuple[int, ...]:
        wanted = [key for key in keys if key is not None]
        for key in wanted:
            self.make_resident(key, wanted)
        with self.places.changing:  # another thread may have had their slots since: now nobody can
            for key in wanted:
                self.make_resident(key, wanted)
            slots = self.places.slots.lease(keys)
        assert slots is not None, "what is kept has left its slot"
        return slots

    def memory(self) -> memory.MemoryReport:
        """Where the bytes are."""
        return self.places.memory()

    def in_flight(self) -> dict[str, int]:
        """Rows of running work by the key of each resident adapter."""
        return self.places.slots.in_flight()

    def _read(self, key: str) -> HostCopy:
        try:
            return self._copy_of(self.reader.read(key))
        except Exception as error:
            if not memory.is_shortage(error):
                raise
            raise NoRoom(
                f"there is no memory left to read adapter {key!r}: {error}.",
                hint="Nothing was lost. Unload something, or lower host_bytes or merged_host_bytes.",
            ) from error

    def _copy_of(self, loaded: LoadedAdapter) -> HostCopy:
        return HostCopy(loaded.updates, loaded.shared, self._voice_of(loaded), loaded.invocation)

    def _voice_of(self, loaded: LoadedAdapter) -> Voice:
        vocabulary = vocabulary_of(self.base, loaded.updates)
        return adapter_voice(self.places.voices[None], loaded.tokenizer, loaded.chat_template, vocabulary)

    @contextmanager
    def _default_rows(self) -> Iterator[RowMap]:
        slots = self.places.slots
        while (leased := slots.lease([key := self._default_key()])) is None:
            if key is not None and key == self._default_key():
                self.make_resident(key)
        try:
            yield RowMap(everywhere=leased[0])
        finally:
            slots.release([key])

    def _default_key(self) -> str | None:
        default = self.default
        return None if default is None else default.key
