"""Source: a folder on this machine."""

from __future__ import annotations

from pathlib import Path

from adapter_hub.config import Settings
from adapter_hub.errors import RequestError, SourceNotFound
from adapter_hub.hookspecs import Fetched, Source, hookimpl


class LocalFolder:
    """Takes an existing folder, and anything that is written as a path."""

    name = "folder"

    def can_fetch(self, ref: str) -> bool:
        """True for an existing folder and for references that only a path can be (``/a``, ``./a``, ``~/a``)."""
        return ref.startswith(("/", ".", "~")) or Path(ref).exists() or ref.count("/") != 1

    def fetch(self, ref: str, revision: str | None, settings: Settings) -> Fetched:
        """The folder itself, with links resolved.

        Raises:
            SourceNotFound: there is no such folder.
            RequestError: a revision was asked for; folders have none.
        """
        folder = Path(ref).expanduser()
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.is_file() else "does not exist"
            raise SourceNotFound(f"the adapter folder {ref} {what}.", hint="Name the folder that holds the adapter.")
        if revision is not None:
            raise RequestError(f"revision {revision!r} was asked of the folder {ref}.", hint="Folders have none.")
        return Fetched(folder.resolve())


@hookimpl
def adapter_hub_sources() -> list[Source]:
    """The one source here."""
    return [LocalFolder()]
