"""The hooks through which every variant, format and source comes in, the built-in ones included.

A plugin is a module (or any object) found through the entry-point group ``adapter_hub``. It implements the
hooks it needs with ``@adapter_hub.hookimpl``; each returns a list of plain objects, described by the protocols
here. Hooks fire at start-up and at load, never per layer or token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from .merge_methods import Contribution, Merged, MergeMethod, SiteToMerge

if TYPE_CHECKING:
    from fastapi import APIRouter
    from torch import Tensor

    from .base import BaseModel
    from .config import Settings
    from .loading import LoadedAdapter
    from .loading.checkpoint import Checkpoint
    from .updates import SiteUpdate

__all__ = [
    "AdapterFiles",
    "Contribution",
    "Exporter",
    "Fetched",
    "Format",
    "HookSpecs",
    "Importer",
    "Kept",
    "Lowered",
    "MergeMethod",
    "Merged",
    "SiteSummary",
    "SiteToMerge",
    "Source",
    "Summary",
    "Variant",
    "hookimpl",
    "hookspec",
]
PROJECT = "adapter_hub"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Fetched:
    """What a source brought to this machine, a folder or a single file, and the revision it stands for."""

    folder: Path
    revision: str | None = None


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter as its format read it.

    Args:
        tensors: named after the base's modules, ``<module path>.<parameter>``, whatever prefixes the file had.
        config: the adapter's settings, in the vocabulary of a PEFT ``adapter_config.json``.
        base_name: Hub id or folder of the base it was trained on, where recorded.
        base_revision: commit of that base, where recorded.
        tokenizer: folder of the adapter's own tokenizer, where it brings one.
        chat_template: the adapter's own chat template (Jinja source), where it brings one.
        model_types: the kinds of base it is for (``model_type`` of transformers), where recorded.
        warnings: words of caution for the user.
        unstated: what the container cannot tell, by the name of the option that states it, and what is taken for
            granted; a warning where the user does not state it.
        fit: for containers whose names or orders of rows only a base can settle. It gives the files again with
            tensors and config as that base names and orders them; asked once, at load, before the variant.
            ``inspect`` shows the file's own names.
    """

    tensors: dict[str, Tensor]
    config: Mapping[str, Any]
    base_name: str | None = None
    base_revision: str | None = None
    tokenizer: Path | None = None
    chat_template: str | None = None
    model_types: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unstated: Mapping[str, str] = field(default_factory=dict)
    fit: Callable[[AdapterFiles, BaseModel], AdapterFiles] | None = None


@dataclass(frozen=True)
class Lowered:
    """What a variant made of an adapter.

    Args:
        updates: the update of each site, by path.
        warnings: words of caution for the user.
        shared: tensors that other adapters are likely to have too. Equal ones are kept once on the device,
            and so is whatever part of them an update uses as a view.
        invocation: token ids from whose last occurrence in a row on the adapter acts, while the tokens before are the
            base's, and all of them where it does not occur; empty for an adapter that acts on every token.
    """

    updates: Mapping[str, SiteUpdate]
    warnings: tuple[str, ...] = field(default=())
    shared: tuple[Tensor, ...] = field(default=())
    invocation: tuple[int, ...] = field(default=())


@dataclass(frozen=True)
class SiteSummary:
    """How an adapter acts on one site: its rank, and the constant its low-rank product is multiplied with."""

    rank: int
    scale: float | None = None


@dataclass(frozen=True)
class Summary:
    """What can be said of an adapter from its files alone.

    Args:
        sites: by path, the sites where the adapter type itself acts.
        scale_rule: how the scale comes about, in words or a formula.
        refused: what would make a load fail, one sentence each; empty where nothing is known to.
    """

    sites: Mapping[str, SiteSummary]
    scale_rule: str
    refused: tuple[str, ...] = field(default=())


class Source(Protocol):
    """A place that adapters come from."""

    name: str

    def can_fetch(self, ref: str) -> bool:
        """Whether ``ref`` is written the way this source's references are. Asks no network."""
        ...

    def fetch(self, ref: str, revision: str | None, settings: Settings) -> Fetched:
        """Bring the adapter to this machine. Raises a ``SourceError``."""
        ...


class Format(Protocol):
    """A container on disk: a folder, or a single file. ``folder`` is the path of either."""

    name: str

    def detect(self, folder: Path) -> bool:
        """Whether the folder holds this format, told by content. Reads no weights, never raises on bad files.

        At most one format may claim a folder: say no where another has what it takes.
        """
        ...

    def files(self, folder: Path) -> tuple[Path, ...]:
        """Every file whose content makes the adapter what it is: their digest is its identity.

        Asked before ``read``, so that hashing runs beside it.
        """
        ...

    def read(self, folder: Path, settings: Settings) -> AdapterFiles:
        """Read everything. Raises a ``FormatError`` that names the file."""
        ...


class Variant(Protocol):
    """An adapter type."""

    name: str

    def matches(self, config: Mapping[str, Any]) -> bool:
        """Whether an adapter with this configuration is of this type."""
        ...

    def describe(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Summary:
        """Say what is in the file, without a base. Takes nothing out of ``tensors``."""
        ...

    def lower(self, tensors: MutableMapping[str, Tensor], config: Mapping[str, Any], base: BaseModel) -> Lowered:
        """Turn the tensors into site updates.

        Take each tensor that is used out of ``tensors`` (``pop``); from then on it is the variant's own, to be
        changed in place if that helps. What is left afterwards is read as whole parameters of the base where
        it has the name of one, and makes the load fail where it has not.
        Raises an ``AdapterError`` for anything it would compute wrongly.
        """
        ...


@dataclass(frozen=True)
class Kept:
    """What an importer made of one changed tensor of a checkpoint, or an exporter of one site of an adapter.

    Args:
        name: the tensor's, as the checkpoint has it, or the site's path.
        form: how its change is kept, in a word.
        stored_bytes: size of that in the adapter's file.
        change: Frobenius norm of the change.
        error: Frobenius norm of what is lost of it.
    """

    name: str
    form: str
    stored_bytes: int
    change: float
    error: float


class Importer(Protocol):
    """A way to write what further training changed in a whole checkpoint as an adapter."""

    name: str
    help: str

    def write(self, base: Checkpoint, tuned: Checkpoint, folder: Path, *, base_name: str, rank: int) -> list[Kept]:
        """Write the adapter into ``folder``, an empty one, and tell what was kept of each changed tensor.

        Nothing may be lost in silence: what is kept in part has its error reported. ``rank`` is that of
        low-rank forms. Raises an ``AdapterError`` for anything that it cannot keep.
        """
        ...


class Exporter(Protocol):
    """A way to write an adapter out. ``exact`` says that it holds every update of the canonical form as it is."""

    name: str
    help: str
    exact: bool

    def write(
        self, adapter: LoadedAdapter, base: BaseModel, folder: Path, *, rank: int | None, record: Mapping[str, Any]
    ) -> list[Kept]:
        """Write the adapter into ``folder``, an empty one, and tell what was kept of each site.

        Tokenizer, chat template and card are written by the caller. ``rank`` is the largest that may be written;
        None writes what can be written without loss and refuses the rest. ``record`` says how the adapter came
        about, and is kept where the format has a place for it. Raises an ``AdapterError`` that names the site.
        """
        ...


class HookSpecs:
    """The hooks by phase of life."""

    @hookspec
    def adapter_hub_sources(self) -> list[Source]:  # type: ignore[empty-body]
        """Places that adapters come from.

        Any plugin may implement it. Called once, when a hub or the command line starts.
        """

    @hookspec
    def adapter_hub_formats(self) -> list[Format]:  # type: ignore[empty-body]
        """Containers on disk.

        Any plugin may implement it. Called once, when a hub or the command line starts.
        """

    @hookspec
    def adapter_hub_variants(self) -> list[Variant]:  # type: ignore[empty-body]
        """Adapter types.

        Any plugin may implement it. Called once, when a hub or the command line starts.
        """

    @hookspec
    def adapter_hub_importers(self) -> list[Importer]:  # type: ignore[empty-body]
        """Ways to turn a tuned checkpoint and its base into an adapter (``adapter-hub add --tuned-from``).

        Any plugin may implement it. Called once, when a hub or the command line starts.
        """

    @hookspec
    def adapter_hub_merge_methods(self) -> list[MergeMethod]:  # type: ignore[empty-body]
        """Ways to make one adapter of several (``hub.compose``).

        Any plugin may implement it. Called once, when a hub or the command line starts.
        """

    @hookspec
    def adapter_hub_exporters(self) -> list[Exporter]:  # type: ignore[empty-body]
        """Ways to write an adapter out (``hub.export``, ``adapter-hub convert``).

        Any plugin may implement it. Called once, when a hub or the command line starts.
        """

    @hookspec
    def adapter_hub_server_routes(self) -> list[APIRouter]:  # type: ignore[empty-body]
        """Further routes of the server. ``adapter_hub.server.service`` has what they depend on: hub and caller.

        Any plugin may implement it; import fastapi in it and not beside it, for only servers have it installed.
        Called once, when a server starts.
        """
