"""Source: a folder on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from adapter_hub.config import Settings
from adapter_hub.errors import RequestError, SourceNotFound
from adapter_hub.hookspecs import Fetched, Source, hookimpl


class LocalFolder:
    """Takes an existing folder, and anything that is written as a path."""

    name = "folder"

    def can_fetch(self, ref: str) -> bool:
        """True for an existing folder and for references that only a path can be (``/a``, ``./a``, ``~/a``)."""
        return ref.startswith(("/", ".", "~")) or ref.count("/") != 1 or os.path.exists(ref)

    def fetch(self, ref: str, revision: str | None, settings: Settings) -> Fetched:
        """The folder itself, with links resolved.

        Raises:
            SourceNotFound: there is no such folder.
            RequestError: a revision was asked for, and folders have none; or no registry could keep its name.
        """
        folder = Path(os.path.expanduser(ref))  # Path's own raises where there is no such user
        if not os.path.isdir(folder):  # and its is_dir where the name is longer than a file system takes
            what = "is a file, not a folder" if os.path.isfile(folder) else "does not exist"
            raise SourceNotFound(f"the adapter folder {ref} {what}.", hint="Name the folder that holds the adapter.")
        if revision is not None:
            raise RequestError(f"revision {revision!r} was asked of the folder {ref}.", hint="Folders have none.")
        resolved = folder.resolve()
        try:
            str(resolved).encode()
        except UnicodeEncodeError as error:
            raise RequestError(f"the path {resolved} is not in UTF-8.", hint="Give the folder another name.") from error
        return Fetched(resolved)


@hookimpl
def adapter_hub_sources() -> list[Source]:
    """The one source here."""
    return [LocalFolder()]
