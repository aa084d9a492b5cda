"""The journey of an adapter: source -> format -> variant -> site updates -> proof."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Settings
from ..errors import AdapterHubError, CorruptFile, PluginError, SourceNotFound, UnknownFormat, UnknownVariant
from ..hookspecs import AdapterFiles, Fetched, Format, Source, Summary, Variant
from ..plugin_manager import Plugins
from .digest import Digests
from .options import Options, check_options, identity, state
from .places import Place, find_place
from .steps import passed

if TYPE_CHECKING:
    from torch import Tensor

    from ..base import BaseModel
    from ..updates import SiteUpdate

TUNED = "It looks like a whole model: adapter-hub add --tuned-from BASE makes an adapter of what was changed in one."


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter in host memory, proven for one base.

    ``fetched`` names the very folder or file that was read; ``bytes`` counts its tensors as they lie on disk.
    ``invocation`` is that of ``Lowered``: where it is not empty the adapter must not act on every token, so it cannot
    be merged into weights.
    """

    digest: str
    fetched: Fetched
    format: str
    variant: str
    updates: Mapping[str, SiteUpdate]
    shared: tuple[Tensor, ...]
    ranks: tuple[int, ...]
    bytes: int
    base_name: str | None
    warnings: tuple[str, ...]
    tokenizer: Path | None
    chat_template: str | None
    invocation: tuple[int, ...] = ()
    options: Options = field(default_factory=dict)


class AdapterLoader:
    """Brings adapters in through the plugins' sources, formats and variants. Keeps no adapter itself."""

    def __init__(self, plugins: Plugins, settings: Settings) -> None:
        self.plugins = plugins
        self.settings = settings
        self._digests = Digests()
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="adapter-digest")

    def close(self) -> None:
        """End the thread that hashes."""
        self._hashing.shutdown()

    def fetch(self, ref: str, revision: str | None = None) -> Fetched:
        """Bring the adapter's files to this machine.

        Raises:
            SourceError: it is not there, needs rights, or the source does not answer.
        """
        source = next((s for s in self.plugins.sources if self._ask(s, s.can_fetch, ref)), None)
        if source is None:
            raise SourceNotFound(
                f"{ref!r} is no adapter folder, and no source knows references like it.",
                hint=f"Sources: {_names(self.plugins.sources)}.",
            )
        fetched: Fetched = self._ask(source, source.fetch, ref, revision, self.settings)
        passed("source", f"revision {fetched.revision}" if fetched.revision else source.name)
        return fetched

    def place_of(self, path: Path) -> Place:
        """Where the adapter lies in a folder, or which file it is, and the format that recognises it.

        Raises:
            UnknownFormat: no format does, or the folder holds several adapters.
        """
        place = find_place(path, self._recognise)
        if place is None:
            found = "it is a file" if path.is_file() else f"it holds {_contents(path)}"
            raise UnknownFormat(
                f"{path} holds no adapter that any format recognises ({found}).",
                hint=TUNED if _is_checkpoint(path) else f"Formats: {_names(self.plugins.formats)}.",
            )
        return place

    def _recognise(self, path: Path) -> Format | None:
        return next((fmt for fmt in self.plugins.formats if self._ask(fmt, fmt.detect, path)), None)

    def read(self, place: Place, options: Options) -> AdapterFiles:
        """Read an adapter with its format, and put what was stated beside what it says.

        Raises:
            FormatError: the files are not in order.
            RequestError: they contradict what was stated.
        """
        read: AdapterFiles = self._ask(place.format, place.format.read, place.path, self.settings)
        files = state(read, options)
        return replace(files, warnings=place.warnings + files.warnings)

    def digest(self, place: Place) -> Future[str]:
        """Begin to hash the adapter's content, in a thread beside the caller.

        Raises:
            CorruptFile: it is larger than this machine's memory, as a file full of holes can be.
        """
        files, folder = self._ask(place.format, place.format.files, place.path), place.path
        size = sum(path.stat().st_size for path in files)
        if size > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
            raise CorruptFile(
                f"{folder} holds {size} bytes, this machine has {memory} of memory.",
                hint="Adapters are read whole; this is hardly one.",
            )
        return self._hashing.submit(self._digests.content, files)

    def variant_of(self, config: Mapping[str, Any], where: Path) -> Variant:
        """The variant that recognises an adapter's configuration.

        Raises:
            UnknownVariant: none does.
        """
        for variant in self.plugins.variants:
            if self._ask(variant, variant.matches, config):
                return variant
        kind = config.get("peft_type", config.get("variant", "unnamed"))
        raise UnknownVariant(
            f"{where} is an adapter of type {kind!r}, which no plugin serves in this form.",
            hint=f"Variants: {_names(self.plugins.variants)}. A plugin adds one with the hook adapter_hub_variants.",
        )

    def describe(self, variant: Variant, files: AdapterFiles) -> Summary:
        """What a variant says of an adapter's files."""
        summary: Summary = self._ask(variant, variant.describe, files.tensors, files.config)
        return summary

    def load(
        self, fetched: Fetched, base: BaseModel, *, any_base: bool | None = None, options: Options | None = None
    ) -> LoadedAdapter:
        """Read, lower and prove a fetched adapter against ``base``.

        Args:
            fetched: a folder or file.
            base: the base that is to serve it.
            any_base: accept one that records another base; None takes the setting.
            options: what the user states of it, in the names of PEFT's configurations.

        Raises:
            AdapterError: it cannot be served; nothing is kept of it.
            RequestError: its file contradicts the options.
        """
        any_base = self.settings.allow_base_mismatch if any_base is None else any_base
        try:
            with reading(fetched.folder):
                return self._load(fetched, base, any_base, check_options(options or {}))
        except AdapterHubError as error:
            error.add_note(f"adapter: {fetched.folder}")
            raise

    def _load(self, fetched: Fetched, base: BaseModel, any_base: bool, options: Options) -> LoadedAdapter:
        from .proof import prove  # brings transformers in, which reading and inspecting do without

        place = self.place_of(fetched.folder)
        passed("format", place.format.name)
        before = _stamps(place.path)
        digest = self.digest(place)
        try:
            read = self.read(place, options)
            files = self._fitted(place.format, read, base)
            variant = self.variant_of(files.config, place.path)
            passed("variant", variant.name)
            proven = prove(files, variant, self.plugins.owner(variant), base, any_base=any_base)
        finally:
            wait([digest])
        if _stamps(place.path) != before:
            raise CorruptFile(f"{place.path} changed while it was read.", hint="Load it again.")
        content = identity(digest.result(), options)
        passed("content", f"sha256 {content[:12]}")
        return LoadedAdapter(
            digest=content,
            fetched=replace(fetched, folder=place.path),
            format=place.format.name,
            variant=variant.name,
            updates=proven.updates,
            shared=proven.shared,
            ranks=_ranks(proven.updates),
            bytes=sum(tensor.nbytes for tensor in read.tensors.values()),
            base_name=files.base_name,
            warnings=files.warnings + proven.warnings,
            tokenizer=files.tokenizer,
            chat_template=files.chat_template,
            options=options,
            invocation=proven.invocation,
        )

    def _fitted(self, fmt: Format, files: AdapterFiles, base: BaseModel) -> AdapterFiles:
        """The files as the base names and orders them, where their format asks for one."""
        if files.fit is None:
            return files
        fitted: AdapterFiles = self._ask(fmt, files.fit, files, base)
        return fitted

    def _ask(self, offered: Any, method: Any, *arguments: Any) -> Any:
        """Call a plugin's object; what it raises beyond the known errors names the plugin."""
        try:
            return method(*arguments)
        except AdapterHubError:
            raise
        except Exception as error:
            raise PluginError(
                f"plugin {self.plugins.owner(offered)!r} fails in {offered.name}.{method.__name__}: "
                f"{type(error).__name__}: {error}.",
                hint="Nothing was changed; report it to the plugin's author.",
            ) from error


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """What the block's own reading of an adapter's folder runs into is an error of the adapter."""
    try:
        yield
    except OSError as error:
        raise CorruptFile(
            f"{folder} cannot be read: {error}.", hint="Check its files' rights, and that nothing moves them away."
        ) from error


def _ranks(updates: Mapping[str, SiteUpdate]) -> tuple[int, ...]:
    """The different ranks of the canonical form's low-rank branches."""
    factors = [getattr(update, "A", None) for update in updates.values()]
    return tuple(sorted({A.shape[0] for A in factors if A is not None}))


def _is_checkpoint(path: Path) -> bool:
    """Whether a folder looks like a whole model."""
    return (path / "config.json").is_file() and any(path.glob("model*.safetensors"))


def _contents(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"


def _names(offered: Iterable[Source | Format | Variant]) -> str:
    return ", ".join(sorted(thing.name for thing in offered)) or "none"


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    return sorted(map(_stamp, path.iterdir() if path.is_dir() else [path]))


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError:
        stat = path.lstat()  # a link that leads nowhere: no format reads it, so it does no harm
    return path.name, stat.st_size, stat.st_mtime_ns
