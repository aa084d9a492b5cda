"""Files of adapters that are registered: whether they are still there, and still what they were."""

from __future__ import annotations

from pathlib import Path

from ..errors import CorruptFile, SourceError
from ..hookspecs import Fetched
from ..store import AdapterInfo
from .options import identity
from .pipeline import AdapterLoader, reading


def fetch_registered(loader: AdapterLoader, info: AdapterInfo) -> Fetched:
    """The files of a registered version from where they lay then or, if that is gone, from its source again.

    Raises:
        SourceError: they are not there either; the message names the version.
    """
    if Path(info.folder).exists():
        return loader.fetch(info.folder)
    try:
        return loader.fetch(info.source, info.revision)
    except SourceError as error:
        raise type(error)(
            f"the files of adapter {info.key!r} are gone from {info.folder}: {error.message}",
            hint="Bring them back, or register the adapter again from where they lie now.",
        ) from error


def hold_digest(info: AdapterInfo, folder: Path, digest: str) -> None:
    """Raise ``CorruptFile`` unless the content of ``folder`` is what was registered."""
    if digest != info.digest:
        raise CorruptFile(
            f"adapter {info.key!r} in {folder} is not what was registered: its content has digest {digest[:12]}, "
            f"not {info.digest[:12]}.",
            hint=f"Bring its files back, or register what is there now: it becomes the next version of {info.name!r}.",
        )


def check_files(loader: AdapterLoader, info: AdapterInfo) -> None:
    """Find the files of a registered version and hash them. Needs no base.

    Raises:
        SourceError: they are gone.
        FormatError: they are no adapter any more, or another one.
    """
    folder = fetch_registered(loader, info).folder
    with reading(folder):
        digest = loader.digest(loader.place_of(folder)).result()
    hold_digest(info, folder, identity(digest, info.options))
