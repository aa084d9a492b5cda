"""What may be registered over HTTP: what lies in the operator's folders, and the Hub repos that the operator named."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from ..config import ServerSettings
from ..errors import AccessError, SettingError

MAX_ENTRIES = 10_000
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


class Folders:
    """The operator's folders, and patterns of Hub repos.

    Args:
        settings: name them.

    Raises:
        SettingError: a folder is not there.
    """

    def __init__(self, settings: ServerSettings) -> None:
        named = re.split(f"[,{re.escape(os.pathsep)}]", settings.adapter_folders)
        self.roots = tuple(self._root(text.strip()) for text in named if text.strip())
        self._repos = tuple(text.strip() for text in settings.allowed_repos.split(",") if text.strip())

    def reference(self, ref: str) -> str:
        """A reference as it may be registered: a path with every link followed, or a Hub repo.

        A path that is not absolute is looked for in each folder.

        Raises:
            AccessError: it leads out of the folders, or is a repo that is not allowed. Whether there is anything
                at the end of such a path is not told.
        """
        inside = self._inside(ref)
        if inside is not None:
            _hold_whole(inside, self.roots)
            return str(inside)
        if not _REPO.fullmatch(ref) or ".." in ref:
            raise AccessError(
                f"{ref!r} lies in none of the folders that adapters may be registered from.",
                hint="The setting adapter_folders names them.",
            )
        # A source takes what exists as a path for a path, and this one would be none of the operator's.
        if not any(fnmatchcase(ref, pattern) for pattern in self._repos) or os.path.lexists(ref):
            raise AccessError(
                f"the Hub repo {ref!r} may not be registered over HTTP.", hint="The setting allowed_repos names some."
            )
        return ref

    def hold_inside(self, folder: Path) -> None:
        """Raise ``AccessError`` unless a folder with all that is in it lies in the operator's folders."""
        if _within(folder.resolve(), self.roots) is None:
            raise _leaves(folder)
        _hold_whole(folder.resolve(), self.roots)

    def _inside(self, ref: str) -> Path | None:
        """Where a reference leads, if that is in one of the folders."""
        for root in self.roots:
            try:
                led = (root / ref).resolve()  # an absolute one is itself
                found = _within(led, self.roots)
                if found is not None and (os.path.isabs(ref) or led.exists()):
                    return found
            except (OSError, RuntimeError, ValueError):
                continue  # links in a circle, a name that no file can have
        return None

    @staticmethod
    def _root(text: str) -> Path:
        folder = Path(text).expanduser()
        if not folder.is_dir():
            raise SettingError(f"adapter_folders names {text}, which is no folder.", hint="Make it, or leave it out.")
        return folder.resolve()


def _within(path: Path, roots: tuple[Path, ...]) -> Path | None:
    """A resolved path, if it lies below a root; a root itself is no adapter."""
    return path if any(path != root and path.is_relative_to(root) for root in roots) else None


def _hold_whole(path: Path, roots: tuple[Path, ...]) -> None:
    """Raise unless all that would be read at ``path`` is a plain file or folder below the roots, links followed."""
    entries = _walk(path) if path.is_dir() else _beside(path)
    for count, entry in enumerate(entries):
        if count >= MAX_ENTRIES:
            raise AccessError(f"{path} holds more than {MAX_ENTRIES} files.", hint="Name the adapter's own folder.")
        try:
            led = entry.resolve()
            mode = led.stat().st_mode
        except (OSError, RuntimeError):
            continue  # a link that leads nowhere: nobody can read it
        if _within(led, roots) is None:
            raise _leaves(entry)
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise AccessError(f"{entry} is neither a file nor a folder.", hint="Take it away.")


def _walk(folder: Path) -> Iterator[Path]:
    # A link to a folder is held before it is followed; in a circle of links the count ends the walk.
    for place, folders, files in os.walk(folder, followlinks=True):
        yield from (Path(place) / name for name in (*folders, *files))


def _beside(path: Path) -> Iterator[Path]:
    """A file, and what lies beside it: it may be part of a folder that says more of it."""
    yield path
    if path.parent.is_dir():
        yield from (entry for entry in path.parent.iterdir() if not entry.is_dir())


def _leaves(path: Path) -> AccessError:
    return AccessError(
        f"{path} leads out of the folders that adapters may be registered from.",
        hint="The setting adapter_folders names them.",
    )
