"""The names of the tensors in a file, without its weights and without running anything. For formats to detect by."""

from __future__ import annotations

import functools
import json
import pickletools
import zipfile
from pathlib import Path

SAFE, PICKLES = ".safetensors", (".bin", ".pt", ".pth", ".ckpt")
MAX_HEADER_BYTES = 4 << 20
MAX_PICKLE_BYTES = 2 << 20


def peek_names(path: Path) -> frozenset[str]:
    """Names of the tensors in a safetensors file, by its header, or all texts in what ``torch.save`` wrote.

    Empty for anything else, and for whatever is too damaged to tell.
    """
    try:
        if not path.name.endswith((SAFE, *PICKLES)) or not path.is_file():
            return frozenset()
        stat = path.stat()
        return _peek(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))
    except OSError:
        return frozenset()


@functools.lru_cache(maxsize=64)  # each format asks for itself; a file that has changed is another one
def _peek(path: Path, _stamp: tuple[int, ...]) -> frozenset[str]:
    try:
        return _header_names(path) if path.name.endswith(SAFE) else _pickled_texts(path)
    except Exception:  # a damaged file makes its reader fail in any way there is; whoever reads it says how
        return frozenset()


def _header_names(path: Path) -> frozenset[str]:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER_BYTES:
            return frozenset()
        header = json.loads(stream.read(length))
    return frozenset(header) if isinstance(header, dict) else frozenset()


def _pickled_texts(path: Path) -> frozenset[str]:
    """``torch.save`` writes a zip; what it pickled in there is taken apart instruction by instruction, not run."""
    with zipfile.ZipFile(path) as archive:
        entry = next((entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")), None)
        if entry is None or entry.file_size > MAX_PICKLE_BYTES:
            return frozenset()
        content = archive.read(entry)
    return frozenset(text for _, text, _ in pickletools.genops(content) if isinstance(text, str))
