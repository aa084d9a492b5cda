"""The part of the hub that makes files: adapters of adapters, and exports. A facade, as the rest of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .exporting import Exported
from .loading import Inspection, inspect_folder
from .residents import Residents
from .store import AdapterInfo
from .workshop import MODEL, Workshop


class Making:
    """``compose``, ``inspect`` and ``export``."""

    _residents: Residents
    _workshop: Workshop

    def compose(
        self,
        name: str,
        parents: Mapping[str, float] | str,
        method: str = "cat",
        *,
        seed: int = 0,
        folder: str | Path | None = None,
        tags: Sequence[str] = (),
        **options: Any,
    ) -> AdapterInfo:
        """Make one adapter of several and record it; it is served, mixed and exported like any other.

        Args:
            name: of the new adapter.
            parents: registered adapters and their weights, or the same as a request writes it.
            method: the exact sum (``cat``), or any that a plugin brings; ``docs/composing.md`` tells them.
            seed: of methods that draw.
            folder: where its files go; None keeps them in the cache, by name and content.
            tags: free words to find it by.
            **options: of the method, such as ``density`` and ``rank``.

        Raises:
            RequestError: a weight, the method, an option or the folder is not in order.
            NotRegistered: there is no adapter of a given name.
            BaseMismatch: the adapters are not all of this base.
            AdapterError: the method cannot merge these adapters; nothing is recorded.
        """
        into = None if folder is None else Path(folder)
        info = self._workshop.compose(name, parents, method, seed, into, tags, options)
        return self._residents.with_residency(info)

    def inspect(
        self, ref: str | Path, *, revision: str | None = None, options: Mapping[str, Any] | None = None
    ) -> Inspection:
        """Tell what is in an adapter's files, whether or not this base could serve them; nothing is recorded.

        Raises:
            AdapterError: they cannot be fetched or read.
            RequestError: they contradict the options.
        """
        loader = self._residents.reader.loader
        return inspect_folder(loader.fetch(str(ref), revision).folder, loader, options)

    def export(
        self,
        name: str,
        path: str | Path,
        as_: str = MODEL,
        *,
        dtype: str | None = None,
        full_base: str | Path | None = None,
        max_shard_size: int | str = "5GB",
        rank: int | None = None,
    ) -> Exported:
        """Write an adapter out: folded into its base as a plain checkpoint, or as an adapter of another form.

        Args:
            name: of an adapter, or a sum (``sql*0.7+med*0.3``).
            path: the folder, which may be there only if it is empty. It appears whole or not at all; a model
                whose export failed is taken up where it stopped by the same call.
            as_: ``model``, or an exporter that a plugin brings; ``docs/export.md`` tells them.
            dtype: of a model: bfloat16 (the default), float16 or float32. It is rounded once.
            full_base: checkpoint (folder or Hub id) of this base in full precision, to fold into instead of the
                weights that are served; the adapter is then lowered for it.
            max_shard_size: of a model's files.
            rank: of an adapter: the largest that may be written, what is lost being reported; None takes no loss.

        Raises:
            RequestError: the folder is taken or cannot be written, or an argument has a value it cannot have.
            NotRegistered: there is no adapter of this name.
            BaseMismatch: ``full_base`` is another base.
            AdapterError: the adapter cannot be written so; names the site and the way out.
        """
        full = None if full_base is None else str(full_base)
        return self._workshop.export(name, Path(path), as_, dtype, full, max_shard_size, rank)
