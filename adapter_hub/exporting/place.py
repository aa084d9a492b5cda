"""Where an export goes: a folder that appears whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ..errors import RequestError


def hold_free(folder: Path) -> None:
    """Raise ``RequestError`` unless ``folder`` is not there, or empty."""
    try:
        taken = folder.exists() and not (folder.is_dir() and next(folder.iterdir(), None) is None)
    except OSError as error:
        raise RequestError(f"{folder} cannot be looked into: {error}.", hint="Choose another folder.") from error
    if taken:
        raise RequestError(
            f"{folder} exists already and is no empty folder.", hint="Remove it, or choose another folder."
        )


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which becomes ``folder`` at the end of the block; after an error nothing is left.

    Raises:
        RequestError: ``folder`` is taken, or cannot be written.
    """
    hold_free(folder)
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.part-", dir=folder.parent) as scratch:
            whole = Path(scratch) / folder.name
            whole.mkdir()
            yield whole
            whole.rename(folder)


@contextmanager
def writing(folder: Path, hint: str = "Nothing of it was kept. ") -> Iterator[None]:
    """What the block's own writing runs into (rights, a full disk) is an error of the request."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise RequestError(
            f"{folder} cannot be written: {error}.", hint=f"{hint}Check its rights and the disk's space."
        ) from error
