"""AdapterHub: one frozen base and its adapters. A facade: it delegates, it computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from . import cores, memory
from .asking import Asking
from .base import BaseModel, BaseReport, load_base
from .config import Settings
from .engine import Load
from .front import Front
from .making import Making
from .merging import Merging
from .names import Names
from .plugin_manager import load_plugins
from .residents import Residents
from .store import AdapterInfo, Registry
from .store.expression import is_expression
from .workshop import Workshop


class AdapterHub(Asking, Names, Merging, Making):
    """One frozen base model and any number of adapters, each row of a batch with its own.

    Wherever an adapter is asked for, it is named by a reference (see ``Names``). Every method may be called from
    several threads. A forward that has begun keeps its adapters to its end: what it uses cannot be unloaded meanwhile.

    Args:
        base: the loaded base.
        registry: file of registered adapters; None keeps them in memory.
        settings: see ``Settings``; None reads the environment.
        plugins: further plugins as (name, object), beside the installed ones.

    Raises:
        PluginError: a plugin is broken.
        RegistryError: the registry cannot be opened.
    """

    def __init__(
        self,
        base: BaseModel,
        *,
        registry: str | Path | None = None,
        settings: Settings | None = None,
        plugins: Iterable[tuple[str, object]] = (),
    ) -> None:
        self.settings = settings or Settings.from_environment()
        self.plugins = load_plugins(plugins)
        self.base = base
        self._residents = Residents(base, self.plugins, Registry(registry), self.settings)
        self._front = Front(base, self._residents, self.settings)
        self._workshop = Workshop(base, self.plugins, self._residents, self.settings)

    @classmethod
    def from_pretrained(
        cls,
        base: str | Path | None = None,
        *,
        quantization: str | None = "nf4",
        dtype: str | torch.dtype = "auto",
        device: str | torch.device = "auto",
        revision: str | None = None,
        registry: str | Path | None = None,
        settings: Settings | None = None,
        plugins: Iterable[tuple[str, object]] = (),
    ) -> Self:
        """Load a base and open a hub on it; the arguments are those of ``load_base`` and of the class.

        Raises:
            BaseModelError: the base cannot be fetched or loaded.
        """
        settings = settings or Settings.from_environment()
        loaded = load_base(
            base, quantization=quantization, dtype=dtype, device=device, revision=revision, settings=settings
        )
        cores.release()  # other threads may be the ones that compute from now on
        return cls(loaded, registry=registry, settings=settings, plugins=plugins)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unload every adapter, give the model its own forward back and close the registry. Once is enough."""
        self._front.close()
        self._residents.close()

    @property
    def model(self) -> Any:
        """The transformers model, usable as ever. Outside of ``rows`` it runs the default adapter."""
        return self.base.model

    @property
    def tokenizer(self) -> Any:
        """The base's tokenizer."""
        return self.base.tokenizer

    @property
    def registry(self) -> Registry:
        """The registry of adapters, and of the API keys of servers."""
        return self._residents.registry

    @property
    def active_adapter(self) -> str | None:
        """The default of direct calls, as ``set_adapter`` was given it; None is the base."""
        default = self._residents.default
        return None if default is None else default.asked

    def report(self) -> BaseReport:
        """What the base holds: bits per weight, bytes, sites, fingerprint."""
        return self.base.report()

    def register(
        self,
        name: str,
        ref: str | Path,
        *,
        revision: str | None = None,
        tags: Sequence[str] = (),
        pin: bool = False,
        allow_base_mismatch: bool | None = None,
        options: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> AdapterInfo:
        """Fetch an adapter, prove it against the base and record it under a name.

        Content that is new under the name becomes its next version, and the current one. Content that it has
        already stays the version that it is.

        Args:
            name: letters, digits, ``.``, ``_`` and ``-``.
            ref: a folder, a file or a Hub repo.
            revision: commit, branch or tag of a Hub repo.
            tags: free words to find it by; none leaves those of the version before.
            pin: pin the name, see ``pin``; False leaves its pins as they are.
            allow_base_mismatch: accept an adapter that records another base; None takes the setting.
            options: what its file does not say, in the names of PEFT's configurations (``docs/formats.md``).
            defaults: see ``set_defaults``; none leaves those of the version before.

        Raises:
            RequestError: a name or tag cannot be one.
            AdapterError: it cannot be fetched, read or served; nothing is recorded.
            RequestError: an option contradicts the file.
        """
        info, *_ = self._residents.register(
            name, str(ref), revision, tuple(tags), allow_base_mismatch, options, pin=pin, defaults=defaults
        )
        return self._residents.with_residency(info)

    def find_content(self, name: str, ref: str | Path) -> AdapterInfo | None:
        """The version of a name whose content lies at ``ref``, if there is one: it is hashed, not proven.

        Raises:
            AdapterError: it cannot be fetched, or is no adapter.
        """
        return self._residents.reader.find_content(name, str(ref))

    def load_adapter(
        self,
        ref: str | Path,
        name: str | None = None,
        *,
        revision: str | None = None,
        tags: Sequence[str] = (),
        pin: bool = False,
        allow_base_mismatch: bool | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AdapterInfo:
        """Make an adapter resident: a registered one by its reference, or any other, which is registered first.

        Args:
            ref: a reference to a registered adapter, a sum of such (``sql*0.7+med*0.3``), a folder, a file or a Hub
                repo.
            name: what to call it; None takes the last part of ``ref``.

        Raises: as ``register``.
        """
        residents = self._residents
        is_sum = is_expression(str(ref)) and not Path(ref).exists()
        if name is None and (is_sum or residents.registry.knows(str(ref))):
            return residents.with_residency(residents.make_resident(str(ref)))
        name = Path(str(ref)).name if name is None else name
        info, copy = residents.register(name, str(ref), revision, tuple(tags), allow_base_mismatch, options, pin=pin)
        residents.places.install(info, lambda: copy)
        return residents.with_residency(info)

    def make_resident(self, ref: str) -> AdapterInfo:
        """Bring a registered adapter, or a sum of such, to the device. Never takes a reference for a path.

        Raises: as ``set_adapter``, and
            AdapterError: its files are gone, or are not what was registered.
            NoRoom: no slot is free or idle.
        """
        return self._residents.with_residency(self._residents.make_resident(ref))

    def set_adapter(self, name: str | None) -> None:
        """Choose the default of direct calls; None is the base. Loads the adapter if it is not resident.

        The default is the version that the reference stands for now, and stays that version.

        Raises:
            NotRegistered: there is none.
        """
        self._residents.choose(name)

    def unload(self, name: str | None = None, *, keep_on_host: bool = False) -> None:
        """Take one adapter, or all, off the device, with what was merged of them; they stay registered.

        A name alone is all of its versions.

        If it was the default, the base is the default again. Without a name the model is bare afterwards.

        Args:
            name: which one; None is all.
            keep_on_host: keep them in host memory, as far as ``host_bytes`` allows, so that they come back without
                their files being read. Otherwise all their memory goes back to the system.

        Raises:
            AdapterInUse: a running forward, generation or ``rows`` block uses it; nothing was unloaded.
            NotRegistered: there is none of this name.
        """
        self._residents.unload(name, keep_on_host=keep_on_host)

    def remove(self, name: str) -> None:
        """Unload an adapter and forget it: one version, or a name with all of its; files stay where they are.

        If the current version goes, the newest that is left becomes current. Numbers are not given again.

        Raises: as ``unload``; and
            AdapterInUse: an alias stands for that version; nothing was unloaded.
            RequestError: ``name`` is an alias.
        """
        self._residents.remove(name)

    def memory(self) -> memory.MemoryReport:
        """Where the bytes are."""
        return self._residents.memory()

    def start(self) -> None:
        """Start the engine now rather than with the first request; nothing happens where it runs.

        Raises:
            CannotBatch: the model cannot be batched continuously; ``submit`` refuses it.
            BaseModelError: the cache of keys and values does not fit.
            EngineStopped: the hub was closed.
        """
        self._front.start()

    def load(self) -> Load:
        """What runs and waits now, and what has been done since the first request."""
        return self._front.load()

    @contextmanager
    def rows(self, adapters: Sequence[str | None]) -> Iterator[None]:
        """Within the block, forwards of ``hub.model`` in this thread run each batch row with its own adapter.

        Args:
            adapters: one name, or None for the base, for each row of the batch.

        Raises:
            NotRegistered: there is none of a given name.
            RowMapError: (from the forward) the batch has another number of rows.
        """
        keys = self._residents.resolve(adapters)
        with self._residents.rows(keys):
            self._residents.reader.count_uses(keys)
            yield
