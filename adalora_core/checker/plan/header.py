"""Read the headers of safetensors files: names, dtypes and shapes, but no weights.

A file is eight bytes of length (little endian), that many bytes of JSON, and the data. Files come
from the network, so every value in a header is checked before use.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from adalora_core.floor.files import (
    open_regular_file,
    read_start,
    refuse_links_out,
    without_repetition,
)

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

LARGEST_HEADER = 32 << 20
"""Limit on the bytes of an index and of a header; 100,000 tensors need a third of it."""

_LENGTH_BYTES = 8
_FILE_NAME = re.compile(r"[^/\\]+\.safetensors")
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """The dtype (in safetensors' spelling) and the shape of a tensor.

    `begin` is the place of its first byte in the file that holds it.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int = field(default=0, compare=False, repr=False)

    @property
    def entries(self) -> int:
        """Number of entries."""
        return prod(self.shape)

    @property
    def data_bytes(self) -> int:
        """Number of bytes; four for an entry of an unknown dtype."""
        return self.entries * _BITS.get(self.dtype, 32) // 8


def read_weights(place: str | os.PathLike[str]) -> dict[str, TensorInfo]:
    """Return every tensor of a file, of an index of shards, or of the folder that holds either.

    Raises:
        OSError: a file is missing or unreadable.
        ValueError: a header is damaged, or the folder has no safetensors weights.
    """
    path = Path(place)
    if path.is_dir() or path.suffix == ".json":
        refuse_links_out(path if path.is_dir() else path.parent)
    if path.is_dir():
        path = _main_file(path)
    if path.suffix == ".json":
        return _of_shards(path)
    return read_header(path)


def _main_file(folder: Path) -> Path:
    for name in (INDEX, SINGLE):
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} safetensors files and no index" if found else "no safetensors file"
    raise ValueError(
        f"{folder}: expected {SINGLE} or {INDEX} in the folder, found {what}; name one file, or "
        "save the model with save_pretrained"
    )


def _of_shards(index: Path) -> dict[str, TensorInfo]:
    entries = _index_entries(index)
    tensors: dict[str, TensorInfo] = {}
    for shard in dict.fromkeys(entries.values()):
        found = read_header(index.parent / shard)
        tensors |= {name: info for name, info in found.items() if entries.get(name) == shard}
    missing = [name for name in entries if name not in tensors]
    if missing:
        raise ValueError(
            f"{index}: {missing[0]!r} should be in {entries[missing[0]]}, but it is missing there "
            f"({len(missing)} such tensors); download the shards again"
        )
    return tensors


def _index_entries(index: Path) -> dict[str, str]:
    raw = read_start(index, LARGEST_HEADER + 1)
    if len(raw) > LARGEST_HEADER:
        raise ValueError(f"{index}: the index has more bytes than the limit of {LARGEST_HEADER}")
    entries = _decoded(index, raw, "the index").get("weight_map")
    if not isinstance(entries, dict):
        raise ValueError(f"{index}: expected a weight_map from tensors to shards")  # noqa: TRY004 - content
    for name, shard in entries.items():
        # A shard is beside its index; any other path would lead out of the folder.
        if not (isinstance(shard, str) and _FILE_NAME.fullmatch(shard)):
            raise ValueError(
                f"{index}: {name!r} should be in a file beside the index, got {shard!r}"
            )
    return entries


def read_header(path: str | os.PathLike[str]) -> dict[str, TensorInfo]:
    """Return the tensors of one safetensors file by their names.

    Raises:
        OSError: the file is missing or unreadable.
        ValueError: the file is not a safetensors file, or its header contradicts its size or is
            too large.
    """
    path = Path(path)
    with os.fdopen(open_regular_file(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
            raise ValueError(
                f"{path}: not a safetensors file, or truncated: it has {size} bytes"
                + (f", but its header alone needs {length}" if size >= _LENGTH_BYTES else "")
            )
        if length > LARGEST_HEADER:
            raise ValueError(
                f"{path}: the header has {length} bytes, more than the limit of {LARGEST_HEADER}"
            )
        header = _decoded(path, file.read(length), "the header")
    header.pop("__metadata__", None)
    data = _LENGTH_BYTES + length
    return {name: _tensor(path, name, entry, data, size) for name, entry in header.items()}


def file_bytes(tensors: Mapping[str, TensorInfo]) -> int:
    """Return the size of the file that PEFT writes with these tensors, its header included."""
    end, entries = 0, dict[str, Any]({"__metadata__": {"format": "pt"}})
    for name, info in sorted(
        tensors.items(), key=lambda each: (-_BITS.get(each[1].dtype, 32), each[0])
    ):
        begin, end = end, end + info.data_bytes
        entries[name] = {
            "dtype": info.dtype,
            "shape": list(info.shape),
            "data_offsets": [begin, end],
        }
    length = len(json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode())
    return _LENGTH_BYTES + -(-length // _LENGTH_BYTES) * _LENGTH_BYTES + end


def _decoded(path: Path, raw: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(raw, object_pairs_hook=without_repetition)
    except RecursionError:
        raise ValueError(f"{path}: {what} is nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{path}: {what} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {what} should be a JSON object")  # noqa: TRY004 - content
    return value


def _tensor(path: Path, name: str, entry: Any, start: int, size: int) -> TensorInfo:
    data = size - start
    entry = entry if isinstance(entry, dict) else {}
    dtype, shape, ends = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(ends, 2):
        raise ValueError(
            f"{path}: tensor {name!r} should have a dtype, a shape and two data_offsets"
        )
    begin, end = ends
    if begin > end or end > data:
        raise ValueError(
            f"{path}: tensor {name!r} is at bytes {begin} to {end} of {data}: the file is "
            "truncated or damaged"
        )
    info = TensorInfo(dtype, tuple(shape), start + begin)
    if dtype in _BITS and info.entries * _BITS[dtype] != (end - begin) * 8:
        raise ValueError(
            f"{path}: tensor {name!r}, {dtype} {list(shape)}, does not fill its {end - begin} bytes"
        )
    return info


_MOST_DIMENSIONS = 16
_LARGEST_SIZE = 2**63 - 1


def _are_sizes(value: Any, count: int | None = None) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MOST_DIMENSIONS
        and count in (None, len(value))
        and all(type(size) is int and 0 <= size <= _LARGEST_SIZE for size in value)
    )
