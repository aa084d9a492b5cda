"""The identity of an adapter: the sha256 of its content, never its name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def content_digest(files: Sequence[Path]) -> str:
    """Sha256 over the names and contents of ``files``, whatever their order or folder.

    Each file is hashed alone, so large ones stream, and hashing releases the interpreter while it runs.
    """
    whole = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        with path.open("rb") as stream:
            part = hashlib.file_digest(stream, "sha256")
        whole.update(f"{path.name}\0{part.hexdigest()}\n".encode())
    return whole.hexdigest()
