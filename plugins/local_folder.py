"""Source: a folder or a file on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from adapter_hub.config import Settings
from adapter_hub.errors import RequestError, SourceNotFound
from adapter_hub.hookspecs import Fetched, Source, hookimpl


class LocalFolder:
    """Takes an existing folder or file, and anything that is written as a path."""

    name = "folder"

    def can_fetch(self, ref: str) -> bool:
        """True for what exists as a path, and for references that only a path can be (``/a``, ``./a``, ``~/a``)."""
        return ref.startswith(("/", ".", "~")) or ref.count("/") != 1 or os.path.exists(ref)

    def fetch(self, ref: str, revision: str | None, settings: Settings) -> Fetched:
        """The folder or file itself. Links are resolved, but for a file's own: its name may tell what it is.

        Raises:
            SourceNotFound: there is none.
            RequestError: a revision was asked for, and folders have none; or no registry could keep its name.
        """
        path = Path(os.path.expanduser(ref))  # Path's own raises where there is no such user
        is_folder = os.path.isdir(path)  # and its is_dir where the name is longer than a file system takes
        if not is_folder and not os.path.isfile(path):
            what = "is neither a folder nor a file" if os.path.exists(path) else "does not exist"
            raise SourceNotFound(f"the adapter {ref} {what}.", hint="Name the folder or file that holds the adapter.")
        if revision is not None:
            raise RequestError(f"revision {revision!r} was asked of the path {ref}.", hint="Files have none.")
        resolved = path.resolve() if is_folder else path.parent.resolve() / path.name
        try:
            str(resolved).encode()
        except UnicodeEncodeError as error:
            raise RequestError(f"the path {resolved} is not in UTF-8.", hint="Give the folder another name.") from error
        return Fetched(resolved)


@hookimpl
def adapter_hub_sources() -> list[Source]:
    """The one source here."""
    return [LocalFolder()]
