"""Writing a checkpoint's shards: planned first, streamed tensor by tensor, and told whole by their hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import RequestError
from .merged import ModuleTensors

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Shard:
    """One file and what goes into it."""

    file: str
    modules: tuple[ModuleTensors, ...]

    @property
    def bytes(self) -> int:
        """Size of its tensors."""
        return sum(part.bytes for part in self.modules)


def size_in_bytes(size: int | str) -> int:
    """Bytes of a size such as ``"5GB"`` or 5000000000.

    Raises:
        RequestError: it is none, or not above 0.
    """
    try:
        text = str(size).strip().upper()
        number = float(text[:-2]) * UNITS[text[-2:]] if text[-2:] in UNITS else float(text)
        found = int(number)
    except (ValueError, OverflowError):
        found = 0
    if found < 1:
        raise RequestError(f"{size!r} is no size.", hint="Write bytes, or a number with KB, MB, GB or TB.")
    return found


def plan_shards(modules: Sequence[ModuleTensors], limit: int) -> list[Shard]:
    """Modules in their order, as many in a file as ``limit`` bytes allow; a larger module has a file of its own."""
    groups: list[list[ModuleTensors]] = [[]]
    for part in modules:
        if groups[-1] and sum(one.bytes for one in groups[-1]) + part.bytes > limit:
            groups.append([])
        groups[-1].append(part)
    if len(groups) == 1:
        return [Shard(SINGLE, tuple(groups[0]))]
    digits = [f"model-{k:05d}-of-{len(groups):05d}.safetensors" for k in range(1, len(groups) + 1)]
    return [Shard(file, tuple(group)) for file, group in zip(digits, groups, strict=True)]


def write_index(folder: Path, shards: Sequence[Shard]) -> None:
    """Tell which file holds which tensor; a single file needs no index."""
    if len(shards) == 1:
        return
    table = {name: shard.file for shard in shards for part in shard.modules for name in part.names}
    whole: dict[str, Any] = {"metadata": {"total_size": sum(shard.bytes for shard in shards)}, "weight_map": table}
    (folder / INDEX).write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_shard(
    path: Path, shard: Shard, values: Callable[[ModuleTensors], dict[str, Tensor]], tell: Callable[[int], object]
) -> str:
    """Write a safetensors file with one module in memory at a time; returns its sha256.

    Args:
        path: the file.
        shard: what goes into it.
        values: gives a module's tensors.
        tell: called with the number of bytes of each tensor that is written.
    """
    # The widest types first: then every tensor lies at a multiple of its own width.
    parts = sorted(shard.modules, key=lambda part: -part.dtype.itemsize)
    digest = hashlib.sha256()
    with path.open("wb") as out:
        for piece in chain([_header(parts)], _pieces(parts, values)):
            out.write(piece)
            digest.update(piece)
            tell(len(piece))
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """Sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _header(parts: Sequence[ModuleTensors]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for part in parts:
        for name, shape in zip(part.names, part.shapes.values(), strict=True):
            begin, end = end, end + torch.Size(shape).numel() * part.dtype.itemsize
            entries[name] = {"dtype": NAMES[part.dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _pieces(parts: Sequence[ModuleTensors], values: Callable[[ModuleTensors], dict[str, Tensor]]) -> Iterator[bytes]:
    for part in parts:
        tensors = values(part)
        for name, shape in zip(part.names, part.shapes.values(), strict=True):
            tensor = tensors[name]
            assert (tuple(tensor.shape), tensor.dtype) == (tuple(shape), part.dtype), name
            yield tensor.reshape(-1).view(torch.uint8).numpy().data  # type: ignore[misc]  # bytes without a copy
