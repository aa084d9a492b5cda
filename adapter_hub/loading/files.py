"""Reading an adapter's files: JSON, safetensors and, where allowed, pickles. For formats to build on."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CorruptFile, UnsafeFile

MAX_JSON_BYTES = 16 << 20


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CorruptFile: it is not a file, is implausibly large, or holds something other than a JSON object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CorruptFile(f"{path} is larger than {MAX_JSON_BYTES >> 20} MiB.", hint="This is no config.")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} cannot be read as JSON: {error}.", hint="Fetch the file again.") from error
    if not isinstance(found, dict):
        raise CorruptFile(
            f"{path} holds a {type(found).__name__}, not a JSON object.", hint="Fetch or save the adapter again."
        )
    return found


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in memory of their own.

    The library's default maps the file: whoever wrote to it afterwards would change what is served.

    Raises:
        CorruptFile: the file is truncated or is no safetensors file.
    """
    try:
        return load_file(path, backend="pread")
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFile(
            f"{path} cannot be read as safetensors: {error}.",
            hint=f"It has {path.stat().st_size if path.is_file() else 0} bytes; fetch or save it again.",
        ) from error


def read_pickle(path: Path, *, allowed: bool) -> dict[str, Tensor]:
    """All tensors of a ``torch.save`` file, with torch's weights-only reader.

    Raises:
        UnsafeFile: pickles are not allowed, or this one holds more than tensors.
        CorruptFile: the file is truncated.
    """
    if not allowed:
        raise UnsafeFile(
            f"{path} is a pickle, which can run code when it is read.",
            hint="Save it as safetensors, or allow it with the setting allow_pickle.",
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeFile(f"{path} holds more than tensors: {error}.", hint="Do not load it.") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CorruptFile(f"{path} cannot be read by torch: {error}.", hint="Fetch it again.") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CorruptFile(f"{path} is not a dictionary of tensors.", hint="Save the adapter's tensors alone.")
    return {str(name): tensor.contiguous() for name, tensor in found.items()}
