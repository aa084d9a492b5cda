"""The GGUF container: fields and tensors, read within bounds.

The library that comes with the format maps a file and follows what its header claims. A header that claims 2^60
fields keeps it busy for ever, so the header is read here; types and their unpacking are the library's.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from gguf.quants import dequantize
from torch import Tensor

from adapter_hub.errors import CorruptFile, UnsupportedFeature

MAGIC, VERSIONS, ALIGNMENT = b"GGUF", (2, 3), 32
MAX_FIELDS, MAX_TENSORS, MAX_ITEMS, MAX_TEXT, MAX_DIMENSIONS = 4096, 1 << 16, 4096, 1 << 16, 4
MAX_PEEK_BYTES = 1 << 20
# How often tensors may lie over one another on average; nobody writes that, but a header may say so.
MAX_SHARED = 2
SCALARS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
    GGUFValueType.BOOL: "<?",
}
PLAIN = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
    GGMLQuantizationType.F64: torch.float64,
}


class _Cursor:
    """Takes values from the front of some bytes. Raises ``ValueError`` where they end."""

    def __init__(self, content: memoryview) -> None:
        self.content = content
        self.at = 0

    def take(self, form: str) -> Any:
        size = struct.calcsize(form)
        if self.at + size > len(self.content):
            raise ValueError(f"it ends after {len(self.content)} bytes, within its header")
        value = struct.unpack_from(form, self.content, self.at)[0]
        self.at += size
        return value

    def count(self, limit: int, what: str) -> int:
        found: int = self.take("<Q")
        if found > limit:
            raise ValueError(f"it has {found} {what}, and no adapter has more than {limit}")
        return found

    def text(self) -> str:
        size = self.count(MAX_TEXT, "bytes in a text")
        piece = bytes(self.content[self.at : self.at + size])
        self.at += size
        if len(piece) < size:
            raise ValueError(f"it ends after {len(self.content)} bytes, within its header")
        return piece.decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == GGUFValueType.STRING:
            return self.text()
        if kind == GGUFValueType.ARRAY:
            inner = self.take("<I")
            if inner == GGUFValueType.ARRAY:
                raise ValueError("it has an array of arrays")
            return [self.value(inner) for _ in range(self.count(MAX_ITEMS, "items in an array"))]
        if kind not in SCALARS:
            raise ValueError(f"it has a field of type {kind}, which there is not")
        return self.take(SCALARS[GGUFValueType(kind)])

    def fields(self) -> Iterator[tuple[str, Any]]:
        for _ in range(self.count(MAX_FIELDS, "fields")):
            name = self.text()
            yield name, self.value(self.take("<I"))


def peek_fields(path: Path, *wanted: str) -> dict[str, Any]:
    """Those of the wanted fields that stand at the front of a GGUF file; none for anything else. Never raises."""
    found: dict[str, Any] = {}
    try:
        if not path.is_file():
            return found
        with path.open("rb") as stream:
            if stream.read(4) != MAGIC:
                return found
            stream.seek(0)
            cursor = _opened(stream.read(MAX_PEEK_BYTES))
        cursor.take("<Q")  # the number of tensors: a model may have more of them than an adapter
        for name, value in cursor.fields():
            if name in wanted:
                found[name] = value
            if len(found) == len(wanted):
                break
    except (OSError, ValueError):  # a model's vocabulary, say, which is longer than any array of an adapter
        pass
    return found


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """All fields, and all tensors by name; those in 8 bit and less are unpacked to float32.

    Raises:
        CorruptFile: it is no GGUF file, is truncated, or claims what no adapter has.
        UnsupportedFeature: a tensor is of a type that the library cannot unpack.
    """
    try:
        content = memoryview(path.read_bytes())
        cursor = _opened(content)
        count = cursor.count(MAX_TENSORS, "tensors")
        fields = dict(cursor.fields())
        entries = [_entry(cursor) for _ in range(count)]
        _hold_plausible(entries, len(content))
        start = _aligned(cursor.at, fields.get("general.alignment", ALIGNMENT))
        tensors = {name: _tensor(content[start:], *entry) for name, *entry in entries}
    except NotImplementedError as error:
        raise UnsupportedFeature(
            f"{path}: {error}.", hint="Convert the adapter again, to f32, f16, bf16 or q8_0."
        ) from error
    except (OSError, ValueError, OverflowError, RuntimeError) as error:  # the last is torch's, for shapes
        raise CorruptFile(f"{path} cannot be read as GGUF: {error}.", hint="Fetch or convert it again.") from error
    return fields, tensors


def _hold_plausible(entries: list[tuple[str, GGMLQuantizationType, tuple[int, ...], int, int]], size: int) -> None:
    if len({name for name, *_ in entries}) < len(entries):
        raise ValueError("it gives a tensor twice")
    if sum(size for *_, size in entries) > MAX_SHARED * size:
        raise ValueError("its tensors claim more bytes than it has")


def _opened(content: bytes | memoryview) -> _Cursor:
    cursor = _Cursor(memoryview(content))
    if bytes(cursor.content[:4]) != MAGIC:
        raise ValueError("it does not begin as one")
    cursor.at = 4
    version = cursor.take("<I")
    if version not in VERSIONS:
        raise ValueError(f"it is of version {version}; versions 2 and 3 are read, in little endian")
    return cursor


def _entry(cursor: _Cursor) -> tuple[str, GGMLQuantizationType, tuple[int, ...], int, int]:
    """Name, type, shape as numpy has it, offset and size of a tensor."""
    name = cursor.text()
    dimensions: int = cursor.take("<I")
    if not 0 < dimensions <= MAX_DIMENSIONS:
        raise ValueError(f"tensor {name} has {dimensions} dimensions")
    shape = tuple(reversed([cursor.take("<Q") for _ in range(dimensions)]))  # the file has the fastest first
    kind = GGMLQuantizationType(cursor.take("<I"))
    block, size = GGML_QUANT_SIZES[kind]
    if not math.prod(shape) or shape[-1] % block:
        raise ValueError(f"tensor {name} is {list(shape)}, which blocks of {block} do not fill")
    return name, kind, shape, cursor.take("<Q"), math.prod(shape) // block * size


def _aligned(at: int, alignment: Any) -> int:
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 16:
        raise ValueError(f"its alignment is {alignment!r}")
    return -(-at // alignment) * alignment


def _tensor(data: memoryview, kind: GGMLQuantizationType, shape: tuple[int, ...], offset: int, size: int) -> Tensor:
    piece = bytearray(data[offset : offset + size])
    if len(piece) < size:
        raise ValueError(f"it ends {size - len(piece)} bytes before its tensors do")
    if kind in PLAIN:
        return torch.frombuffer(piece, dtype=PLAIN[kind]).reshape(shape)
    packed = np.frombuffer(piece, dtype=np.uint8).reshape(math.prod(shape[:-1]), -1)
    with np.errstate(all="ignore"):  # values that are not finite are found, and named, at the proof
        return torch.from_numpy(np.ascontiguousarray(dequantize(packed, kind))).reshape(shape)
