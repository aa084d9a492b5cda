"""The identity of an adapter: the sha256 of its content, never its name."""

from __future__ import annotations

import hashlib
import mmap
import time
from collections.abc import Sequence
from pathlib import Path

SETTLED_NS = 2_000_000_000


class Digests:
    """Takes content digests, and remembers the hash of a file for as long as the file stays as it is.

    A file counts as unchanged while inode, size and both its times are. Times are as coarse as the kernel's
    clock, so, as git does with its index, a file that changed just before it was hashed is hashed again next
    time. Safe from any thread.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}

    def content(self, files: Sequence[Path]) -> str:
        """Sha256 over the names and contents of ``files``, whatever their order or folder.

        Raises:
            OSError: a file cannot be read.
        """
        whole = hashlib.sha256()
        for path in sorted(files, key=lambda path: path.name):
            whole.update(f"{path.name}\0{self._of(path)}\n".encode())
        return whole.hexdigest()

    def _of(self, path: Path) -> str:
        stat = path.stat()
        stamp = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        begun = time.time_ns()
        found = _hash(path)
        if begun - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED_NS:
            self._known[path] = (stamp, found)
        return found


def _hash(path: Path) -> str:
    # In one call, which gives the interpreter up once: hashed in pieces, a large file would ask for it back
    # hundreds of times, and hold up whatever runs beside.
    with path.open("rb") as stream:
        if not path.stat().st_size:
            return hashlib.sha256().hexdigest()  # an empty file cannot be mapped
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return hashlib.sha256(content).hexdigest()
