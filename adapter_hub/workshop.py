"""The workshop: new artifacts out of registered adapters, compositions and exports."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from .base import BaseModel, default
from .base.stored import StoredBase
from .composing import Parent, bind_method, check_parents, compose
from .config import Settings
from .engine import Voice, adapter_voice, base_voice, vocabulary_of
from .errors import BaseMismatch, PluginError, RequestError
from .exporting import Card, Exported, export_adapter, export_model, get_exporter, weights_of
from .hookspecs import Exporter
from .loading import AdapterLoader, LoadedAdapter, Options, inspect_folder, open_checkpoint
from .plugin_manager import Plugins, load_plugins
from .reading import hold_always
from .residents import Residents
from .store import AdapterInfo, check_name
from .store.expression import Expression, is_expression

DEFAULT_BASE = "default"
MODEL = "model"
MODEL_IS = "model: a plain checkpoint with the adapter folded in"


class Workshop:
    """Makes adapters of adapters, and checkpoints of adapters and their base. Safe from any thread.

    Args:
        base: the base that is served.
        plugins: where merge methods and exporters come from.
        residents: where adapters come from, and compositions go to.
        settings: where compositions are kept.
    """

    def __init__(self, base: BaseModel, plugins: Plugins, residents: Residents, settings: Settings) -> None:
        self._base = base
        self._plugins = plugins
        self._residents = residents
        self._settings = settings

    def compose(
        self,
        name: str,
        parents: Mapping[str, float] | str,
        method: str,
        seed: int,
        folder: Path | None,
        tags: Sequence[str],
        options: Mapping[str, Any],
    ) -> AdapterInfo:
        """Merge registered adapters, write the result as an adapter and record it; see ``AdapterHub.compose``."""
        check_name(name)
        weights = Expression.parse(parents).weights if isinstance(parents, str) else dict(parents)
        check_parents(weights)
        bound = bind_method(self._plugins, method, seed, options)
        exporter = self._exact_exporter()
        loaded = [self._with_scales(parent) for parent in self._residents.reader.parents(weights)]
        composed = compose(loaded, bound, self._base)
        card = Card(name, "", "a composition", exporter.name, self._base.name, composition=composed.record)
        voice = _voice_of(composed.adapter, self._residents.voice(None), self._base)
        kept = Path(self._settings.cache_dir) / "composed"
        made = folder or kept / f".{name}.new-{uuid.uuid4().hex[:12]}"
        owner = self._plugins.owner(exporter)
        export_adapter(exporter, owner, composed.adapter, self._base, voice, made, card, record=composed.record)
        if folder is None:
            made = self._by_content(made, kept, name)
        try:
            info, *_ = self._residents.register(name, str(made), None, tuple(tags), None)
        except BaseException:
            if str(made) not in {info.folder for info in self._residents.registry.list()}:
                shutil.rmtree(made, ignore_errors=True)
            raise
        return info

    def export(
        self,
        name: str,
        folder: Path,
        form: str,
        dtype: str | None,
        full_base: str | None,
        max_shard_size: int | str,
        rank: int | None,
    ) -> Exported:
        """Write an adapter or a sum of adapters out; see ``AdapterHub.export``."""
        exporter = None if form == MODEL else get_exporter(self._plugins, form, MODEL_IS)
        if exporter is None and rank is not None:
            raise RequestError("rank is of adapters, a model holds every change whole.", hint="Leave rank out.")
        if exporter is not None and dtype is not None:
            raise RequestError(
                "dtype is of a model, adapters are written as they were computed.", hint="Leave dtype out."
            )
        base = self._base if full_base is None else open_stored_base(full_base, self._settings, self._base)
        loaded, voice = self._residents.loaded(name, base)
        card = self._card(name, loaded, base)
        hold_always(name, loaded)
        if exporter is None:
            return export_model(
                loaded, base, voice, folder, card, dtype=dtype or "bfloat16", max_shard_size=max_shard_size
            )
        card = replace(card, weights="")
        return export_adapter(exporter, self._plugins.owner(exporter), loaded, base, voice, folder, card, rank=rank)

    def _with_scales(self, parent: Parent) -> Parent:
        sites = self._residents.reader.sites(parent.name)
        return replace(parent, scales={path: site.scale for path, site in sites.items() if site.scale is not None})

    def _exact_exporter(self) -> Exporter:
        found = next((exporter for exporter in self._plugins.exporters if exporter.exact), None)
        if found is None:
            raise PluginError(
                "no plugin brings an exporter that holds every update as it is, so compositions cannot be kept.",
                hint="Install the plugins that come with adapter_hub.",
            )
        return found

    def _by_content(self, made: Path, kept: Path, name: str) -> Path:
        """Move a new folder to a place that tells its content; the one that lies there already has the same."""
        digest = inspect_folder(made, self._residents.reader.loader).digest
        final = kept / f"{name}-{digest[:12]}"
        try:
            made.rename(final)
        except OSError:
            shutil.rmtree(made, ignore_errors=True)
            if not final.is_dir():
                raise
        return final

    def _card(self, name: str, loaded: LoadedAdapter, base: BaseModel) -> Card:
        if not is_expression(name):
            info = self._residents.registry.get(name)
            source = info.source + (f" at {info.revision}" if info.revision else "")
            return Card(name, loaded.digest, source, loaded.variant, base.name, weights_of(base))
        weights = Expression.parse(name).weights
        parents = [
            {"name": parent, "weight": weight, "digest": self._residents.registry.get(parent).digest}
            for parent, weight in weights.items()
        ]
        record = {"method": "exact weighted sum", "parents": parents}
        return Card(name, loaded.digest, "a request", loaded.variant, base.name, weights_of(base), record)


def convert(
    ref: str,
    folder: Path,
    form: str,
    *,
    base: str | None = None,
    revision: str | None = None,
    rank: int | None = None,
    options: Options | None = None,
    settings: Settings | None = None,
) -> Exported:
    """Write an adapter that is in no registry in another form, with no more of its base than its checkpoint.

    Args:
        ref: a folder or a Hub repo.
        folder: where to; it may be there only if it is empty.
        form: name of the exporter.
        base: the adapter's base in full precision; None is the built-in one.
        revision: commit, branch or tag of a Hub repo.
        rank: the largest that may be written; None takes no loss.
        options: what its files do not say, as ``register`` takes it.
        settings: as a hub has them.

    Raises:
        RequestError: there is no such exporter, or ``folder`` cannot be written.
        AdapterError: the adapter cannot be read, is of another base, or cannot be written so.
        BaseModelError: the base cannot be read.
    """
    settings = settings or Settings.from_environment()
    plugins = load_plugins()
    exporter = get_exporter(plugins, form)
    with closing(AdapterLoader(plugins, settings)) as loader:
        fetched = loader.fetch(ref, revision)
        stored = open_stored_base(base or DEFAULT_BASE, settings)
        loaded = loader.load(fetched, stored, options=options)
    own = base_voice(stored.tokenizer, stored.model.generation_config, vocabulary_of(stored, {}))
    voice = _voice_of(loaded, own, stored)
    card = Card(Path(ref).name, loaded.digest, ref, loaded.variant, stored.name)
    exported = export_adapter(exporter, plugins.owner(exporter), loaded, stored, voice, folder, card, rank=rank)
    return replace(exported, warnings=loaded.warnings)


def open_stored_base(ref: str, settings: Settings, served: BaseModel | None = None) -> StoredBase:
    """A base in full precision from its checkpoint, of which no more is read than is asked for.

    Args:
        ref: a folder or a Hub id; ``default`` is the built-in base.
        settings: where the built-in base is kept, whether the network may be asked, and whether another base than
            ``served`` is accepted.
        served: the base that it must be the full-precision form of.

    Raises:
        SourceError: it is not there.
        BaseModelError: it is no usable base.
        BaseMismatch: it is another base.
    """
    is_default = ref == DEFAULT_BASE
    folder = str(default.default_base_folder(settings)) if is_default else ref
    checkpoint = open_checkpoint(folder, offline=settings.offline)
    aliases = () if served is None else (served.name, *served.aliases)
    stored = StoredBase(checkpoint, name=default.NAME if is_default else ref, aliases=aliases)
    if served is not None and stored.fingerprint != served.fingerprint and not settings.allow_base_mismatch:
        raise BaseMismatch(
            f"{ref} is another base (fingerprint {stored.fingerprint[:12]}) than {served.name} "
            f"({served.fingerprint[:12]}).",
            hint="Name the checkpoint that the served base was made of, or accept this one with the setting "
            "allow_base_mismatch.",
        )
    return stored


def _voice_of(loaded: LoadedAdapter, own: Voice, base: BaseModel) -> Voice:
    return adapter_voice(own, loaded.tokenizer, loaded.chat_template, vocabulary_of(base, loaded.updates))
