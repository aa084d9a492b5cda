"""The journey of an adapter: source -> format -> variant -> site updates -> proof."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Settings
from ..errors import AdapterHubError, CorruptFile, PluginError, SourceNotFound, UnknownFormat, UnknownVariant
from ..hookspecs import AdapterFiles, Fetched, Format, Source, Summary, Variant
from ..plugin_manager import Plugins
from .digest import Digests

if TYPE_CHECKING:
    from torch import Tensor

    from ..base import BaseModel
    from ..updates import SiteUpdate


@dataclass(frozen=True)
class LoadedAdapter:
    """An adapter in host memory, proven for one base.

    ``bytes`` counts its tensors as they lie on disk. ``invocation`` is that of ``Lowered``: where it is not empty the
    adapter must not act on every token, so it cannot be merged into weights.
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
        return fetched

    def format_of(self, folder: Path) -> Format:
        """The format that recognises a folder.

        Raises:
            UnknownFormat: none does.
        """
        fmt = next((f for f in self.plugins.formats if self._ask(f, f.detect, folder)), None)
        if fmt is None:
            found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
            raise UnknownFormat(
                f"{folder} holds no adapter that any format recognises (it holds {found}).",
                hint=f"Formats: {_names(self.plugins.formats)}.",
            )
        return fmt

    def read(self, fmt: Format, folder: Path) -> AdapterFiles:
        """Read a folder with its format.

        Raises:
            FormatError: the files are not in order.
        """
        files: AdapterFiles = self._ask(fmt, fmt.read, folder, self.settings)
        return files

    def digest(self, fmt: Format, folder: Path) -> Future[str]:
        """Begin to hash the adapter's content, in a thread beside the caller.

        Raises:
            CorruptFile: it is larger than this machine's memory, as a file full of holes can be.
        """
        files = self._ask(fmt, fmt.files, folder)
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

    def load(self, fetched: Fetched, base: BaseModel, *, any_base: bool | None = None) -> LoadedAdapter:
        """Read, lower and prove a fetched adapter against ``base``.

        Raises:
            AdapterError: it cannot be served; nothing is kept of it.
        """
        try:
            with reading(fetched.folder):
                return self._load(fetched, base, self.settings.allow_base_mismatch if any_base is None else any_base)
        except AdapterHubError as error:
            error.add_note(f"adapter: {fetched.folder}")
            raise

    def _load(self, fetched: Fetched, base: BaseModel, any_base: bool) -> LoadedAdapter:
        from .proof import prove  # brings transformers in, which reading and inspecting do without

        before = _stamps(fetched.folder)
        fmt = self.format_of(fetched.folder)
        digest = self.digest(fmt, fetched.folder)
        try:
            files = self.read(fmt, fetched.folder)
            variant = self.variant_of(files.config, fetched.folder)
            proven = prove(files, variant, self.plugins.owner(variant), base, any_base=any_base)
        finally:
            wait([digest])
        if _stamps(fetched.folder) != before:
            raise CorruptFile(f"{fetched.folder} changed while it was read.", hint="Load it again.")
        return LoadedAdapter(
            digest=digest.result(),
            fetched=fetched,
            format=fmt.name,
            variant=variant.name,
            updates=proven.updates,
            shared=proven.shared,
            ranks=_ranks(proven.updates),
            bytes=sum(tensor.nbytes for tensor in files.tensors.values()),
            base_name=files.base_name,
            warnings=proven.warnings,
            tokenizer=files.tokenizer,
            chat_template=files.chat_template,
            invocation=proven.invocation,
        )

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


def _names(offered: Iterable[Source | Format | Variant]) -> str:
    return ", ".join(sorted(thing.name for thing in offered)) or "none"


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    return sorted(map(_stamp, folder.iterdir()))


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError:
        stat = path.lstat()  # a link that leads nowhere: no format reads it, so it does no harm
    return path.name, stat.st_size, stat.st_mtime_ns
