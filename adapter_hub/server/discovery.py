"""Discovery: adapters that lie in the operator's folders are registered, at the start and as they come and change."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
from watchfiles import awatch

from ..errors import AdapterHubError, RequestError
from ..hub import AdapterHub
from ..store import AdapterInfo, check_name
from .folders import Folders

QUIET_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Discovery:
    """Registers each subfolder of the operator's folders that holds an adapter, under the subfolder's name.

    What cannot be registered is logged in a line, and tried again once something in its folder changes. A name
    whose folder is gone stays registered, and is logged.

    Args:
        hub: where adapters are registered.
        folders: the operator's.
    """

    def __init__(self, hub: AdapterHub, folders: Folders) -> None:
        self._hub = hub
        self._folders = folders
        self._working = threading.Lock()  # a scan and a change may come together
        self._missed: set[str] = set()

    def scan(self) -> list[AdapterInfo]:
        """Look at every subfolder once; gives what is new."""
        found = [folder for root in self._folders.roots for folder in _subfolders(root)]
        new = self.look_at(found)
        self._tell_of_missing()
        return new

    def look_at(self, places: Iterable[Path]) -> list[AdapterInfo]:
        """Register what lies in these subfolders, as far as it is an adapter and new."""
        new = []
        with self._working:
            for place in places:
                try:
                    info = self._register(place)
                except AdapterHubError as error:
                    _log.warning("%s is not registered: %s", place, " ".join(str(error).split()))
                except OSError as error:  # it may go, or change its rights, at any moment
                    _log.warning("%s is not registered: %s", place, error)
                else:
                    new += [] if info is None else [info]
        return new

    @asynccontextmanager
    async def running(self, *, watch: bool) -> AsyncIterator[None]:
        """Register what is there and then, for the length of the block, what comes and changes.

        Args:
            watch: do the second; a change counts once it has been quiet for a second.
        """
        await anyio.to_thread.run_sync(self.scan)
        if not watch or not self._folders.roots:
            yield
            return
        stop = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, stop)
            try:
                yield
            finally:
                stop.set()

    async def _watch(self, stop: anyio.Event) -> None:
        try:
            await self._follow(stop)
        except (OSError, RuntimeError) as error:  # the system watches no more folders, say
            _log.error("adapter_folders are watched no more: %s", error)

    async def _follow(self, stop: anyio.Event) -> None:
        changed: set[Path] = set()
        quiet = int(QUIET_SECONDS * 1000)
        # What changed stays pending until a whole round brings no change: a large file is copied over many.
        async for changes in awatch(
            *self._folders.roots,
            stop_event=stop,
            rust_timeout=quiet,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        ):
            touched = {place for _, path in changes if (place := self._place_of(Path(path))) is not None}
            ready, changed = changed - touched, touched
            if ready:
                await anyio.to_thread.run_sync(self._catch_up, sorted(ready))

    def _catch_up(self, places: list[Path]) -> None:
        self.look_at(place for place in places if place.is_dir())
        self._tell_of_missing()

    def _place_of(self, path: Path) -> Path | None:
        """The subfolder of an operator's folder in which something changed."""
        for root in self._folders.roots:
            with suppress(ValueError):
                parts = path.relative_to(root).parts
                if parts and not parts[0].startswith("."):
                    return root / parts[0]
        return None

    def _register(self, place: Path) -> AdapterInfo | None:
        self._folders.hold_inside(place)
        check_name(place.name)
        name, current = place.name, self._current(place.name)
        found = self._hub.find_content(name, place)
        if found is not None:
            if found.current or current is None or not _lies_in(current, place):
                return None
            # The folder went back to what it held before, and what is current lies nowhere any more.
            info = self._hub.rollback(name, found.version)
        else:
            own = current is None or any(_lies_in(info, place) for info in self._hub.versions(name))
            if current is not None and not own and Path(current.folder).exists():
                raise RequestError(
                    f"{current.key} is registered from {current.folder}.", hint="Give one of the two another name."
                )
            info = self._hub.register(name, place)
        _log.info("%s is registered as %s", place, info.key)
        return info

    def _current(self, name: str) -> AdapterInfo | None:
        return self._hub.info(name) if self._hub.registry.knows(name) else None

    def _tell_of_missing(self) -> None:
        """Log, once each, the names whose files lay in the operator's folders and are gone."""
        for info in self._hub.adapters():
            folder = Path(info.folder)
            if not any(folder.is_relative_to(root) for root in self._folders.roots):
                continue
            if folder.exists():
                self._missed.discard(info.key)
            elif info.key not in self._missed:
                self._missed.add(info.key)
                _log.warning("the files of %s are gone from %s; it stays registered", info.key, folder)


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _lies_in(info: AdapterInfo, place: Path) -> bool:
    return Path(info.folder).is_relative_to(place.resolve())
