"""The shelf: the hub's adapters as one caller may read and change them over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import RequestError
from ..hub import AdapterHub
from ..loading import Inspection
from ..memory import MemoryReport
from ..store import BASE_NAME, AdapterInfo
from ..store.expression import Expression, is_expression
from . import wire
from .rights import Caller
from .service import Service

_Made = TypeVar("_Made")
# Arguments of hub.compose that are the server's own, above all where files are written.
_NO_OPTIONS = frozenset({"self", "name", "parents", "method", "seed", "folder", "tags"})


class Shelf:
    """Every way to an adapter here asks first whether it is there for the caller.

    Args:
        service: the server's.
        caller: whose rights count.
    """

    def __init__(self, service: Service, caller: Caller) -> None:
        self.hub: AdapterHub = service.hub
        self._service = service
        self._caller = caller

    def held(self, ref: str) -> str:
        """A reference that the caller may use. Raises ``NotRegistered``, as for what does not exist."""
        self._caller.hold_usable(ref)
        return ref

    async def run(self, work: Callable[..., _Made], /, *arguments: Any, **named: Any) -> _Made:
        """Run what takes long beside the event loop."""
        return await self._service.run(work, *arguments, **named)

    def known(self, ref: str) -> AdapterInfo:
        """What is known of an adapter or a sum. Raises ``NotRegistered``."""
        return self.hub.describe(self.held(ref))

    def page(self, tag: str | None, after: str | None, limit: int, *, all_versions: bool) -> list[AdapterInfo]:
        """Adapters that are there for the caller, in the order of their names."""
        found: list[AdapterInfo] = []
        while len(found) < limit:
            page = self.hub.adapters(tag, all_versions=all_versions, after=after, limit=limit)
            found += [info for info in page if self._caller.may_use(info.name)]
            if len(page) < limit:
                break
            after = page[-1].key if all_versions else page[-1].name
        return found[:limit]

    async def register(self, asked: wire.Registration) -> AdapterInfo:
        """Register what lies where adapters may come from.

        Raises:
            AccessError: the name, or the place, is not the caller's.
            AdapterError: it cannot be served.
        """
        self._caller.hold_name(asked.name)
        return await self.run(self._register, asked)

    def _register(self, asked: wire.Registration) -> AdapterInfo:
        return self.hub.register(
            asked.name,
            self._service.folders.reference(asked.source),
            revision=asked.revision,
            tags=asked.tags,
            pin=asked.pin,
            options=asked.options,
            defaults=asked.defaults,
        )

    async def inspect(self, asked: wire.Inspected) -> Inspection:
        """Look into what could be registered. Raises as ``register``."""
        return await self.run(self._inspect, asked)

    def _inspect(self, asked: wire.Inspected) -> Inspection:
        source = self._service.folders.reference(asked.source)
        return self.hub.inspect(source, revision=asked.revision, options=asked.options)

    async def compose(self, asked: wire.Composition) -> AdapterInfo:
        """Make an adapter of others that are there for the caller.

        Raises:
            NotRegistered: one of them is not.
            RequestError: an option is none of a method.
        """
        self._caller.hold_name(asked.name)
        for parent in Expression.parse(asked.parents).weights if isinstance(asked.parents, str) else asked.parents:
            self.held(parent)
        refused = sorted(_NO_OPTIONS & asked.options.keys())
        if refused:
            raise RequestError(f"{refused[0]!r} is no option of a method.", hint="See docs/composing.md for them.")
        return await self.run(
            self.hub.compose,
            asked.name,
            asked.parents,
            asked.method,
            seed=asked.seed,
            tags=asked.tags,
            **asked.options,
        )

    def memory(self) -> MemoryReport:
        """Where the bytes are, of the adapters that are there for the caller."""
        report = self.hub.memory()
        if self._caller.sees_all:
            return report
        return replace(
            report,
            adapters=self._own(report.adapters),
            host=self._own(report.host),
            merged=self._own(report.merged),
        )

    def _own(self, listing: Mapping[str, int]) -> dict[str, int]:
        return {key: size for key, size in listing.items() if all(map(self._sees, _names_in(key)))}

    def _sees(self, name: str) -> bool:
        return name == BASE_NAME or self._caller.may_use(name)


def _names_in(key: str) -> frozenset[str]:
    return Expression.parse(key).names if is_expression(key) else frozenset({key.partition("@")[0]})
