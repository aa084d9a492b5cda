"""Reading an adapter's files: JSON, safetensors and, where allowed, pickles. For formats to build on."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CorruptFile, UnsafeFile

MAX_TEXT_BYTES = 4 << 20
MAX_JSON_DEPTH = 64
_NESTED = frozenset({dict, list, str})  # what JSON is read into, but numbers and the like
MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 1 << 16
MAX_SHARED = 4  # how often a pickle may on average give one memory to its tensors
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """Text in UTF-8 from a file of at most ``limit`` bytes.

    Raises:
        CorruptFile: it is not a file, is implausibly large, or is not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
        _hold_at_most(limit, len(content), "bytes of text")
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{path} cannot be read as text: {error}.", hint="Fetch the file again.") from error


def read_json(path: Path, limit: int = MAX_TEXT_BYTES) -> dict[str, Any]:
    """A JSON object from a file of at most ``limit`` bytes.

    Raises:
        CorruptFile: it is not a file, is implausibly large or deep, or holds something other than a JSON object.
    """
    try:
        found = json.loads(read_text(path, limit))
        _hold_plain(found)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path} cannot be read as JSON: {error}.", hint="Fetch the file again.") from error
    if not isinstance(found, dict):
        raise CorruptFile(
            f"{path} holds a {type(found).__name__}, not a JSON object.", hint="Fetch or save the adapter again."
        )
    return found


def _hold_plain(found: Any) -> None:
    """Refuse what would only fail further on: nesting that no repr survives, halves of surrogate pairs."""
    level, depth = [found], 0
    while level := [value for value in level if type(value) in _NESTED and value]:
        depth += 1
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} levels deep")
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str):
                value.encode()
            else:
                inner += value
                if isinstance(value, dict):
                    inner += value.values()
        level = inner


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, as views of one block of memory that holds its content.

    The library checks the header; the bytes are then read at once. Its own loader maps the file by default, so
    that whoever writes to it afterwards changes what is served, and else reads tensor by tensor, which takes
    twice as long for the hundreds of small ones that an adapter has (``benchmarks/swap.py``).

    Raises:
        CorruptFile: the file is truncated, is no safetensors file, or has a header that no adapter has.
    """
    try:
        _hold_header(path)
        with safe_open(path, framework="pt") as checked, path.open("rb", buffering=0) as stream:
            _hold_at_most(MAX_TENSORS, len(checked.keys()), "tensors")
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            header.pop("__metadata__", None)
            kinds = {entry["dtype"] for entry in header.values()}
            if len(kinds) == 1 and kinds <= _DTYPES.keys():
                return _read_block(stream, header, _DTYPES[kinds.pop()])
        return load_file(path, backend="pread")
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:  # the last two are torch's
        raise CorruptFile(
            f"{path} cannot be read as safetensors: {error}.",
            hint=f"It has {path.stat().st_size if path.is_file() else 0} bytes; fetch or save it again.",
        ) from error


def _hold_header(path: Path) -> None:
    """The library takes 100 MB of header; to parse that takes half a minute and gigabytes."""
    with path.open("rb") as stream:
        _hold_at_most(MAX_HEADER_BYTES, int.from_bytes(stream.read(8), "little"), "bytes of header")


def _hold_at_most(limit: int, found: int, what: str) -> None:
    if found > limit:
        raise ValueError(f"it has {found} {what}, and no adapter has more than {limit}")


def _read_block(stream: io.FileIO, header: dict[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors of one type: the format leaves no gap between them, so they are one block, cut in one call."""
    entries = sorted(header.items(), key=lambda entry: entry[1]["data_offsets"])
    counts = [(end - begin) // dtype.itemsize for begin, end in (entry["data_offsets"] for _, entry in entries)]
    block = torch.empty(sum(counts), dtype=dtype)
    target, done = memoryview(block.view(torch.uint8).numpy().data), 0
    while done < len(target):
        got = stream.readinto(target[done:])
        if not got:
            raise OSError(f"it ends after {done} of {len(target)} bytes")
        done += got
    pieces = zip(block.split(counts), entries, strict=True)
    return {name: piece.view(entry["shape"]) for piece, (name, entry) in pieces}


def read_shards(index: Path) -> dict[str, Tensor]:
    """All tensors of the safetensors files that an index lists, as ``model.safetensors.index.json`` does.

    Raises:
        CorruptFile: the index is none, leads out of its folder, or does not list just what the files hold.
    """
    tensors: dict[str, Tensor] = {}
    table = read_index(index)
    for file in sorted(set(table.values())):
        for name, tensor in read_safetensors(index.parent / file).items():
            if table.get(name) != file:
                raise CorruptFile(f"tensor {name} of {index.parent / file} is not listed there by {index}.")
            tensors[name] = tensor
    missing = next((name for name in table if name not in tensors), None)
    if missing is not None:
        raise CorruptFile(f"tensor {missing} is not in {index.parent / table[missing]}, where {index} has it.")
    return tensors


def read_index(path: Path) -> dict[str, str]:
    """The file of each tensor by an index's ``weight_map``; every file lies beside the index.

    Raises:
        CorruptFile: it holds no such table, or one that names another folder.
    """
    table = read_json(path).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(file, str) for file in table.values()):
        raise CorruptFile(f"{path} has no table weight_map.", hint="Fetch or save it again.")
    for file in table.values():
        if Path(file).name != file:
            raise CorruptFile(f"{path} names {file!r}, which is no file beside it.")
    return table


def read_pickle(path: Path, *, allowed: bool, within: str | None = None) -> dict[str, Tensor]:
    """All tensors of a ``torch.save`` file, with torch's weights-only reader.

    Args:
        path: the file.
        allowed: whether pickles may be read, the setting ``allow_pickle``.
        within: where the file holds a dictionary of this name, the tensors are those in it.

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
        _hold_stored(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeFile(f"{path} holds more than tensors: {error}.", hint="Do not load it.") from error
    except Exception as error:  # a damaged pickle makes its reader fail in any way there is
        raise CorruptFile(
            f"{path} cannot be read by torch: {type(error).__name__}: {error}.", hint="Fetch it again."
        ) from error
    if isinstance(found, dict) and isinstance(found.get(within), dict):
        found = found[within]
    if not isinstance(found, dict) or not all(isinstance(n, str) and _is_plain(t) for n, t in found.items()):
        raise CorruptFile(
            f"{path} is not a dictionary of plain tensors by name.", hint="Save the adapter's tensors alone."
        )
    size = path.stat().st_size
    if sum(tensor.nbytes for tensor in found.values()) > MAX_SHARED * size:
        raise CorruptFile(f"{path} has {size} bytes, and its tensors claim more than {MAX_SHARED} times as many.")
    # A pickle may give two names one memory; each is to be the reader's own.
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in found.items()}


def _hold_stored(path: Path) -> None:
    """A zip of a few kilobytes may unpack to all memory. torch packs nothing, and what is not packed cannot."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            packed = next((e for e in archive.infolist() if e.compress_type != zipfile.ZIP_STORED), None)
        if packed is not None:
            raise ValueError(f"{packed.filename} in it is compressed, which torch.save does not do")


def _is_plain(value: Any) -> bool:
    """Whether a value is a dense tensor on the CPU with a byte for each byte it claims: strides may lie."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and value.nbytes <= value.untyped_storage().nbytes()
    )
