"""Residents: the adapters that are registered, those that are on the device, and the work that uses them."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from . import memory, ops
from .base import BaseModel
from .base.loader import DTYPES
from .config import Settings
from .engine import Voice, adapter_voice, base_voice, vocabulary_of
from .errors import CorruptFile
from .hookspecs import Fetched
from .loading import AdapterLoader, LoadedAdapter
from .plugin_manager import Plugins
from .runtime import AdapterBank, RowMap
from .store import AdapterInfo, Registry, SlotTable, check_name


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
        self._bank = AdapterBank(base, DTYPES.get(settings.adapter_dtype), self._default_rows, make_planner)
        self._changing = threading.RLock()
        own = base_voice(base.tokenizer, base.model.generation_config, vocabulary_of(base, {}))
        self._voices: dict[str | None, Voice] = {None: own}
        self._closed = False

    def close(self) -> None:
        """Unload everything and give the model its own forward back. Once is enough."""
        with self._changing:
            if not self._closed:
                self._closed = True
                self._bank.close()
                self._loader.close()
                self.registry.close()

    def register(
        self, name: str, ref: str, revision: str | None, tags: tuple[str, ...], any_base: bool | None
    ) -> tuple[AdapterInfo, LoadedAdapter, Voice]:
        """Fetch, prove and record an adapter; gives it back in host memory too, with the voice it brings."""
        check_name(name)
        loaded = self._load(self._loader.fetch(ref, revision), any_base)
        voice = self._voice_of(loaded)
        return self.registry.add(_info_of(name, ref, tags, loaded, self.base)), loaded, voice

    def make_resident(self, name: str) -> AdapterInfo:
        """Load a registered adapter into a slot, if it is in none.

        Raises:
            CorruptFile: its files are not those that were registered.
        """
        info = self.registry.get(name)
        if self._slots.find(name) is None:
            kept = Path(info.folder).is_dir()
            fetched = self._loader.fetch(info.folder) if kept else self._loader.fetch(info.source, info.revision)
            # The question of its base's name was settled when it was registered, but only for that base.
            known = info.base_fingerprint == self.base.fingerprint
            loaded = self._load(fetched, True if known else None)
            if loaded.digest != info.digest:
                raise CorruptFile(
                    f"adapter {name!r} in {info.folder} is not what was registered: its content has digest "
                    f"{loaded.digest[:12]}, not {info.digest[:12]}.",
                    hint="Remove it and register it again.",
                )
            self.install(info, loaded, self._voice_of(loaded))
        return info

    def _load(self, fetched: Fetched, any_base: bool | None) -> LoadedAdapter:
        with _ordinary_tensors():
            return self._loader.load(fetched, self.base, any_base=any_base)

    def install(self, info: AdapterInfo, loaded: LoadedAdapter, voice: Voice) -> None:
        """Write a proven adapter into a slot and publish it, or share the slot that has its content."""
        with self._changing:
            self._voices[info.name] = voice
            if self._slots.find(info.name) is not None or self._slots.share(info.name, info.digest):
                return
            slot = self._slots.reserve()
            try:
                with _ordinary_tensors():
                    self._bank.install(slot, loaded.updates, loaded.shared, loaded.invocation)
            except BaseException:
                self._slots.give_back(slot)
                raise
            self._slots.publish(slot, info.name, info.digest)

    def unload(self, name: str | None) -> None:
        """Take one adapter, or all, off the device; the default goes back to the base with it."""
        with self._changing:
            if name is not None:
                self.registry.get(name)
            going = self._slots.names() if name is None else [name]
            for slot in self._slots.retire(going):
                self._bank.clear(slot)
                self._slots.give_back(slot)
            for gone in going:
                self._voices.pop(gone, None)
            if self.default in going:
                self.default = None

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

    def memory(self) -> memory.MemoryReport:
        """Where the bytes are."""
        report = self.base.report()
        slots = {name: self._slots.find(name) for name in self._slots.names()}
        return memory.MemoryReport(
            base_weights=report.weight_bytes,
            base_constants=report.constant_bytes,
            shared=self._bank.shared_bytes,
            stacked=self._stacks.used,
            adapters={name: self._bank.bytes(slot) for name, slot in slots.items() if slot is not None},
            process=memory.process_bytes(),
            device=memory.device_bytes(self.base.device),
        )

    def in_flight(self) -> dict[str, int]:
        """Rows of running work by resident adapter."""
        return self._slots.in_flight()

    def _voice_of(self, loaded: LoadedAdapter) -> Voice:
        vocabulary = vocabulary_of(self.base, loaded.updates)
        return adapter_voice(self._voices[None], loaded.tokenizer, loaded.chat_template, vocabulary)

    @contextmanager
    def _leased(self, names: Sequence[str | None]) -> Iterator[tuple[int, ...]]:
        slots = self._slots.lease(names)
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
