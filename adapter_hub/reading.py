"""From what a caller names to adapters in host memory: references, sums of adapters, registered files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from .base import BaseModel
from .composing import Parent, hold_same_base, summed
from .config import Settings
from .errors import UnsupportedFeature
from .hookspecs import Fetched, SiteSummary
from .loading import (
    AdapterLoader,
    LoadedAdapter,
    Options,
    check_files,
    fetch_registered,
    hold_digest,
    identity,
    inspect_folder,
    reading,
)
from .plugin_manager import Plugins
from .store import AdapterInfo, Registry, check_name, check_tags
from .store.expression import Expression, is_expression, sum_digest


class SumInfo(AdapterInfo):
    """What is known of a sum of registered adapters, which is in no registry."""

    @property
    def key(self) -> str:
        """The sum written out over the keys of its parents."""
        return self.name


class Reader:
    """Reads and proves adapters. Safe from any thread.

    A reference is resolved once, when a call begins, to a key: that of a version (``name@version``), or a sum of
    such (``sql@1*0.7+med@2*0.3``). From there on the key stands for it.

    Args:
        base: the base that is served.
        plugins: where sources, formats and variants come from.
        registry: the adapters by name.
        settings: permissions.
    """

    def __init__(self, base: BaseModel, plugins: Plugins, registry: Registry, settings: Settings) -> None:
        self.base = base
        self.registry = registry
        self.loader = AdapterLoader(plugins, settings)

    def close(self) -> None:
        """End what reads in the background."""
        self.loader.close()

    def resolve(self, refs: Sequence[str | None]) -> list[str | None]:
        """Keys of what references and sums stand for now; None, the base, stays None.

        Raises:
            NotRegistered: there is none.
            RequestError: a sum cannot be read.
        """
        plain = [None if ref is not None and is_expression(ref) else ref for ref in refs]
        found = [None if info is None else info.key for info in self.registry.resolve(plain)]
        return [
            self._sum_key(ref) if ref is not None and is_expression(ref) else key
            for ref, key in zip(refs, found, strict=True)
        ]

    def _sum_key(self, text: str) -> str:
        weights: dict[str, float] = {}
        for ref, weight in Expression.parse(text).weights.items():
            key = self.registry.get(ref).key
            weights[key] = weights.get(key, 0.0) + weight
        # One adapter at its own weight is that adapter.
        return next(iter(weights)) if set(weights.values()) == {1.0} and len(weights) == 1 else str(Expression(weights))

    def known(self, key: str) -> AdapterInfo:
        """What is known of a version or a sum. Raises ``NotRegistered``."""
        if not is_expression(key):
            return self.registry.get(key)
        weights = Expression.parse(key).weights
        infos = {one: self.registry.get(one) for one in weights}
        return SumInfo(
            name=key,
            digest=sum_digest((info.digest, weights[one]) for one, info in infos.items()),
            source=key,
            revision=None,
            folder="",
            format="none",
            variant="sum",
            sites=max(info.sites for info in infos.values()),
            ranks=(),
            bytes=sum(info.bytes for info in infos.values()),
            base_name=None,
            base_fingerprint=self.base.fingerprint,
            tags=(),
            warnings=(),
            registered_at="",
        )

    def count_uses(self, keys: Sequence[str | None]) -> None:
        """Count one use of each adapter, in a sum of each of its parents."""
        each: list[str | None] = []
        for key in keys:
            each += Expression.parse(key).weights if key is not None and is_expression(key) else [key]
        self.registry.count_uses(each)

    def prove(
        self,
        name: str,
        ref: str,
        revision: str | None,
        tags: tuple[str, ...],
        any_base: bool | None,
        options: Options | None = None,
    ) -> tuple[AdapterInfo, LoadedAdapter]:
        """Fetch and prove an adapter that is to be registered, and say what there is to record of it."""
        check_name(name)
        check_tags(tags)
        loaded = self._load(self.loader.fetch(ref, revision), any_base, options)
        info = _info_of(name, ref, tags, loaded, self.base)
        return replace(info, warnings=(*info.warnings, *self._overwritten(info))), loaded

    def find_content(self, name: str, ref: str) -> AdapterInfo | None:
        """The version of a name whose content lies at a reference, if there is one. It is hashed, not proven.

        Raises:
            AdapterError: it cannot be fetched, or is no adapter.
        """
        known = self.registry.versions(name) if self.registry.knows(name) else []
        if not known:
            return None
        folder = self.loader.fetch(ref).folder
        with reading(folder):
            digest = self.loader.digest(self.loader.place_of(folder)).result()
        return next((info for info in known if info.digest == identity(digest, info.options)), None)

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
        check_files(self.loader, target)
        return self.registry.rollback(name, target.version)

    def read(self, key: str, base: BaseModel | None = None) -> LoadedAdapter:
        """A version or a sum in host memory.

        Args:
            key: what ``resolve`` gave.
            base: what it is held against and lowered for, in place of the base that is served.

        Raises:
            CorruptFile: its files are not those that were registered.
        """
        if is_expression(key):
            with ordinary_tensors():
                return summed(self.parents(Expression.parse(key).weights, base), base or self.base)
        return self._registered(self.registry.get(key), base)

    def parents(self, weights: Mapping[str, float], base: BaseModel | None = None) -> list[Parent]:
        """Registered adapters in host memory, with their weights in a composition."""
        infos = {name: self.registry.get(name) for name in weights}
        hold_same_base(list(infos.values()), self.base)
        parents = [Parent(name, weights[name], self._registered(info, base)) for name, info in infos.items()]
        for parent in parents:
            hold_always(parent.name, parent.loaded)
        return parents

    def sites(self, ref: str) -> Mapping[str, SiteSummary]:
        """Ranks and scales of a registered adapter by site, as its files have them."""
        info = self.registry.get(ref)
        return inspect_folder(Path(info.folder), self.loader, info.options).sites

    def _registered(self, info: AdapterInfo, base: BaseModel | None = None) -> LoadedAdapter:
        fetched = fetch_registered(self.loader, info)
        # The question of its base's name was settled when it was registered, but only for that base.
        known = info.base_fingerprint == self.base.fingerprint
        loaded = self._load(fetched, True if known else None, info.options, base)
        hold_digest(info, fetched.folder, loaded.digest)
        return loaded

    def _load(
        self, fetched: Fetched, any_base: bool | None, options: Options | None, base: BaseModel | None = None
    ) -> LoadedAdapter:
        with ordinary_tensors():
            return self.loader.load(fetched, base or self.base, any_base=any_base, options=options)


def hold_always(name: str, loaded: LoadedAdapter) -> None:
    """Raise ``UnsupportedFeature`` for an adapter that does not act on every token: no weights can do that."""
    if loaded.invocation:
        raise UnsupportedFeature(
            f"adapter {name!r} acts from its invocation tokens on: it can be neither summed nor folded into weights.",
            hint="Serve it as it is.",
        )


@contextmanager
def ordinary_tensors() -> Iterator[None]:
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
        options=dict(loaded.options),
        registered_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
