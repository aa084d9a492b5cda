"""Wiring of plugins: explicit, strict and atomic. Either all of them stand or the start fails by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

import pluggy

from .errors import PluginError
from .hookspecs import PROJECT, Exporter, Format, HookSpecs, Importer, MergeMethod, Source, Variant

KINDS = ("sources", "formats", "variants", "importers", "merge_methods", "exporters")
ROUTES = "server_routes"


@dataclass(frozen=True)
class PluginInfo:
    """Who brought what: a plugin, the distribution it came in, and the names of what it offers."""

    name: str
    distribution: str
    sources: tuple[str, ...]
    formats: tuple[str, ...]
    variants: tuple[str, ...]
    importers: tuple[str, ...]
    merge_methods: tuple[str, ...]
    exporters: tuple[str, ...]
    server_routes: tuple[str, ...]


@dataclass(frozen=True)
class Plugins:
    """Everything that plugins brought, by kind, and the name of the plugin that brought each."""

    sources: Sequence[Source]
    formats: Sequence[Format]
    variants: Sequence[Variant]
    importers: Sequence[Importer]
    merge_methods: Sequence[MergeMethod]
    exporters: Sequence[Exporter]
    owners: dict[int, str]
    infos: tuple[PluginInfo, ...]
    manager: pluggy.PluginManager

    def owner(self, offered: object) -> str:
        """Name of the plugin that brought an object."""
        return self.owners[id(offered)]

    def server_routes(self) -> list[Any]:
        """Routers for a server, asked of the plugins now: they bring in what only a server has installed.

        Raises:
            PluginError: a plugin fails in the hook.
        """
        return [
            router for info in self.infos if info.server_routes for router in _give(self.manager, info.name, ROUTES)
        ]


def load_plugins(extra: Iterable[tuple[str, object]] = ()) -> Plugins:
    """Wire every installed plugin, and ``extra`` ones given as (name, object).

    Raises:
        PluginError: a plugin cannot be imported, names a hook that does not exist, fails in a hook, or offers
            a name that another one has. Nothing is left half registered, for nothing is shared.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    distributions = {}
    for entry in entry_points(group=PROJECT):
        distributions[entry.name] = entry.dist.name if entry.dist else "unknown"
        _register(manager, entry.name, _import(entry))
    for name, plugin in extra:
        distributions[name] = "given by the caller"
        _register(manager, name, plugin)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(
            f"plugin {_name_of(manager, error.plugin)!r} implements a hook that does not exist: {_line(error)}.",
            hint="See adapter_hub.hookspecs for the hooks there are.",
        ) from error
    return _collect(manager, distributions)


def _import(entry: Any) -> object:
    try:
        return entry.load()
    except Exception as error:
        raise PluginError(
            f"plugin {entry.name!r} ({entry.value}) cannot be imported: {type(error).__name__}: {error}.",
            hint="Repair it or uninstall its distribution.",
        ) from error


def _register(manager: pluggy.PluginManager, name: str, plugin: object) -> None:
    try:
        manager.register(plugin, name=name)
    except (ValueError, pluggy.PluginValidationError) as error:
        raise PluginError(
            f"plugin {name!r} cannot be registered: {_line(error)}.",
            hint="Two plugins may not share a name, and hooks must be written as adapter_hub.hookspecs has them.",
        ) from error


def _collect(manager: pluggy.PluginManager, distributions: dict[str, str]) -> Plugins:
    owners: dict[int, str] = {}
    offered: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    infos = []
    for name in distributions:
        own = {kind: _call(manager, name, kind) for kind in offered}
        for kind, things in own.items():
            for thing in things:
                _refuse_double(kind, thing, name, offered[kind], owners)
                owners[id(thing)] = name
                offered[kind].append(thing)
        names = {kind: tuple(thing.name for thing in things) for kind, things in own.items()}
        names[ROUTES] = (name,) if _caller(manager, name, ROUTES).get_hookimpls() else ()
        infos.append(PluginInfo(name=name, distribution=distributions[name], **names))
    return Plugins(**offered, owners=owners, infos=tuple(infos), manager=manager)


def _call(manager: pluggy.PluginManager, name: str, kind: str) -> list[Any]:
    offered = _give(manager, name, kind)
    if not all(isinstance(getattr(thing, "name", None), str) for thing in offered):
        raise PluginError(
            f"plugin {name!r} gives an object in adapter_hub_{kind} that has no name.",
            hint="Give each a 'name' of its own.",
        )
    return offered


def _caller(manager: pluggy.PluginManager, name: str, kind: str) -> pluggy.HookCaller:
    """A hook of one plugin, so that what it brings and how it fails can be told by its name."""
    others = [plugin for other, plugin in manager.list_name_plugin() if other != name]
    return manager.subset_hook_caller(f"adapter_hub_{kind}", others)


def _give(manager: pluggy.PluginManager, name: str, kind: str) -> list[Any]:
    hook = _caller(manager, name, kind)
    try:
        brought = hook()
    except Exception as error:
        raise PluginError(
            f"plugin {name!r} fails in adapter_hub_{kind}: {type(error).__name__}: {error}.",
            hint="Repair it or uninstall its distribution.",
        ) from error
    if len(brought) != len(hook.get_hookimpls()) or not all(isinstance(things, list) for things in brought):
        raise PluginError(f"plugin {name!r} gives no list in adapter_hub_{kind}.", hint="Return a list of objects.")
    return [thing for things in brought for thing in things]


def _refuse_double(kind: str, thing: Any, name: str, known: list[Any], owners: dict[int, str]) -> None:
    for other in known:
        if other.name == thing.name:
            among = kind.replace("_", " ")
            raise PluginError(
                f"plugins {owners[id(other)]!r} and {name!r} both bring {thing.name!r} among the {among}.",
                hint="Uninstall one of them.",
            )


def _name_of(manager: pluggy.PluginManager, plugin: object) -> str:
    return manager.get_name(plugin) or repr(plugin)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
