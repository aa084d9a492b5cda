"""What a hub says of its adapters by name: versions, aliases, pins."""

from __future__ import annotations

from typing import Any, Literal

from .effects import SiteEffect
from .engine import check_defaults
from .residents import Residents
from .store import AdapterInfo


class Names:
    """The part of ``AdapterHub`` that reads and changes names.

    A reference is ``name`` (its current version), ``name@2`` (a version) or ``name:alias``. What a call has begun
    with it ends with, whatever happens to names meanwhile.
    """

    _residents: Residents

    def adapters(
        self, tag: str | None = None, *, all_versions: bool = False, after: str | None = None, limit: int | None = None
    ) -> list[AdapterInfo]:
        """Registered adapters in the order of their names: the current version of each, or all versions.

        Args:
            tag: only those with this tag.
            all_versions: the versions that are not current too.
            after: only what comes after this name or, among all versions, after this version: where a page ended.
            limit: at most so many.

        Raises:
            RequestError: ``limit`` is below 1, or ``after`` can be no reference.
        """
        found = self._residents.registry.list(tag, all_versions=all_versions, after=after, limit=limit)
        return [self._residents.with_residency(info) for info in found]

    def info(self, ref: str) -> AdapterInfo:
        """What is known of one adapter. Raises ``NotRegistered``."""
        return self._residents.with_residency(self._residents.registry.get(ref))

    def describe(self, ref: str) -> AdapterInfo:
        """As ``info``, of a sum of adapters too. Raises ``NotRegistered``."""
        (key,) = self._residents.resolve([ref])
        return self._residents.with_residency(self._residents.reader.known(str(key)))

    def tier(self, ref: str) -> Literal["device", "host", "disk"]:
        """The nearest place where an adapter, or a sum of such, lies now. Raises ``NotRegistered``."""
        return self._residents.tier(ref)

    def effects(self, ref: str) -> tuple[SiteEffect, ...]:
        """How large the change of an adapter, or of a sum, is at each site beside what it changes.

        Its files are read and W is dequantised site by site; nothing of it stays.

        Raises:
            NotRegistered: there is none.
            AdapterError: its files are gone, or are not what was registered.
        """
        return self._residents.effects(ref)

    def versions(self, name: str) -> list[AdapterInfo]:
        """All versions of a name, in the order in which they came. Raises ``NotRegistered``."""
        return [self._residents.with_residency(info) for info in self._residents.registry.versions(name)]

    def tiers(self) -> dict[str, str]:
        """Where adapters lie now, by digest: ``host``, ``device`` or ``merged``. All others lie on disk alone."""
        return self._residents.places.tiers.fastest()

    def rollback(self, name: str, version: int | None = None) -> AdapterInfo:
        """Make another version of a name the current one, until new content is registered under it.

        Its files are hashed first. What ``set_adapter`` chose stays on the version that it was.

        Args:
            name: the name alone.
            version: any that there is; None is the one before the current one.

        Raises:
            NotRegistered: there is no such name or version.
            RequestError: none comes before the current one.
            AdapterError: the version's files are gone, or are not what was registered; nothing was changed.
        """
        return self._residents.with_residency(self._residents.reader.rollback(name, version))

    def alias(self, name: str, alias: str, version: int | None = None) -> AdapterInfo:
        """Let ``name:alias`` stand for a version, by default the current one. An alias may be moved at any time.

        Raises:
            NotRegistered: there is no such name or version.
            RequestError: ``alias`` cannot be one.
        """
        return self._residents.with_residency(self._residents.registry.alias(name, alias, version))

    def unalias(self, name: str, alias: str) -> AdapterInfo:
        """Take an alias away; the version that it stood for stays. Raises ``NotRegistered``."""
        return self._residents.with_residency(self._residents.registry.unalias(name, alias))

    def set_defaults(self, ref: str, /, **fields: Any) -> AdapterInfo:
        """Choose what a server's requests to an adapter have where they do not say; the next version keeps it.

        Args:
            ref: which version: a name is its current one.
            **fields: ``system_prompt`` and fields of ``Sampling``; None takes one away.

        Raises:
            NotRegistered: there is none.
            RequestError: there is no such field, or it cannot have this value.
        """
        return self._residents.with_residency(self._residents.registry.set_defaults(ref, check_defaults(fields)))

    def pin(self, ref: str) -> AdapterInfo:
        """Mark an adapter as one that stays resident when others have to go.

        The pin of a name moves with its current version; that of ``name@2`` or ``name:alias`` is on the version.

        Raises:
            NotRegistered: there is none.
        """
        return self._residents.with_residency(self._residents.registry.pin(ref))

    def unpin(self, ref: str) -> AdapterInfo:
        """Take back the pin of a version or, given a name, all pins of the name and its versions.

        Raises:
            NotRegistered: there is none.
        """
        return self._residents.with_residency(self._residents.registry.unpin(ref))
